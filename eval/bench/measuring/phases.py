"""Where the time goes: what calls take, by phase."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from operator import sub
from timeit import default_timer
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch.utils import benchmark


class _Span(NamedTuple):
    phase: str
    outer: str | None
    """The phase that it lies in."""
    started: Any
    ended: Any


class Phases:
    """What calls take, by phase; what a phase takes inside of another counts once, as its own.

    A mark is set where a call begins and where it ends. What lies between two marks is asked when
    totals are: so an accelerator goes on with what is queued while it is measured.
    """

    def __init__(
        self,
        mark: Callable[[], Any] = default_timer,
        between: Callable[[Any, Any], float] = lambda started, ended: sub(ended, started),
    ) -> None:
        """Start at zero; `mark` tells what has been taken so far, by default seconds."""
        self._mark, self._between = mark, between
        self._spans: list[_Span] = []
        self._running: str | None = None

    @classmethod
    def on(cls, device: str) -> "Phases":
        """Seconds of what runs on a torch device.

        On CUDA by events in the stream, which wait for nothing; on another accelerator each mark
        waits until it has finished, which costs what host and device would do side by side.
        """
        kind = torch.device(device).type
        if kind == "cuda":
            return cls(_event, _seconds_between)
        return cls() if kind == "cpu" else cls(benchmark.timer)

    @property
    def totals(self) -> defaultdict[str, float]:
        """Of each phase, without those inside of it."""
        found: defaultdict[str, float] = defaultdict(float)
        for span in self._spans:
            taken = self._between(span.started, span.ended)
            found[span.phase] += taken
            if span.outer is not None:
                found[span.outer] -= taken
        return found

    def of(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, adding what its calls take to the phase `name`."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            outer, self._running = self._running, name
            started = self._mark()
            try:
                return function(*args, **kwargs)
            finally:
                self._spans.append(_Span(name, outer, started, self._mark()))
                self._running = outer

        return wrapped

    @contextmanager
    def watching(self, *watched: tuple[str, Any, str]) -> Iterator[None]:
        """For a while: a phase, and whose method or function by which name belongs to it."""
        with ExitStack() as stack:
            for phase, owner, name in watched:
                stack.enter_context(patch.object(owner, name, self.of(phase, getattr(owner, name))))
            yield

    def shares(self, *names: str) -> dict[str, float]:
        """Of each of these phases in their sum, by `name_share`."""
        totals = self.totals
        whole = sum(totals[name] for name in names)
        return {f"{name}_share": totals[name] / whole for name in names}


def _event() -> Any:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _seconds_between(started: Any, ended: Any) -> float:
    ended.synchronize()
    return started.elapsed_time(ended) / 1000
