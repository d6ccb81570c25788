"""Timing: contestants by turns, medians with their spread, seconds by phase."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """What a number was over the repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Median, minimum and maximum of at least one value.

        Example:
            >>> Spread.of([2.0, 9.0, 1.0])
            Spread(median=2.0, low=1.0, high=9.0)
        """
        return cls(statistics.median(values), min(values), max(values))


def interleaved(
    contestants: Mapping[str, Callable[[], Any]], repeats: int, warm_ups: int = 1
) -> dict[str, list[float]]:
    """Seconds of every call, the contestants by turns, so that a drift of the machine hits all.

    Args:
        contestants: by name; called in this order.
        repeats: timed rounds, >= 1.
        warm_ups: rounds before them that are not timed.

    Returns:
        By name, one number for each repeat.

    Raises:
        ValueError: no repeats.
    """
    if repeats < 1:
        raise ValueError(f"repeats: got {repeats}, allowed is >= 1")
    for _ in range(warm_ups):
        for contestant in contestants.values():
            contestant()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, contestant in contestants.items():
            started = time.perf_counter()
            contestant()
            seconds[name].append(time.perf_counter() - started)
    return seconds


class Phases:
    """Seconds by phase; those of a phase inside of another are not counted twice."""

    def __init__(self) -> None:
        """Start at zero."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inside = 0.0  # of the phases that ended inside of the one that runs

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, adding the seconds of its calls to the phase `name`."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            outside, self._inside = self._inside, 0.0
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                elapsed = time.perf_counter() - started
                self.seconds[name] += elapsed - self._inside
                self._inside = outside + elapsed

        return wrapped
