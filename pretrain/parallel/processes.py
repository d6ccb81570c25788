"""The processes of a launch, and what they tell one another."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed

T = TypeVar("T")

_PATIENCE = timedelta(days=7)
"""For one another: the first may measure for hours what the others wait for. One that has died is
seen by the launcher, which ends the rest."""


class PartError(ValueError):
    """What one process alone was refused: told by it, whichever it is."""


@dataclass(frozen=True)
class Processes:
    """Those that share one work, seen from one of them; by default it is alone."""

    index: int = 0
    """Of this one: 0 is the main one, which alone writes what all have in common."""
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Of this one."""

    @classmethod
    def of_launch(cls, device: str, environment: Mapping[str, str] = os.environ) -> "Processes":
        """Those that `accelerate launch` or torchrun started; this one alone if nobody did.

        Args:
            device: `cpu`, or an accelerator, of which each process of a machine takes its own.
            environment: in which launchers say how many there are.

        Raises:
            ValueError: an accelerator's number, for several processes; or one process was started
                where several had been asked for.
        """
        wanted = torch.device(device)
        if int(environment.get("WORLD_SIZE", 1)) == 1:
            if "MASTER_PORT" in environment and environment.get("ACCELERATE_USE_CPU") == "True":
                raise ValueError(
                    "num_processes: accelerate launch --cpu starts one process, whatever number "
                    "it is given; launch with --multi_gpu in its place, which also starts "
                    "processes for --device cpu"
                )
            return cls(device=wanted)
        if wanted.index is not None:
            raise ValueError(
                f"device: got {device!r}, allowed is {wanted.type!r} with several processes, each "
                "of which takes its own"
            )
        from accelerate import PartialState

        state = PartialState(cpu=wanted.type == "cpu", timeout=_PATIENCE)
        own = wanted if wanted.type == "cpu" else torch.device(str(state.device))
        return cls(state.process_index, state.num_processes, own)

    @property
    def is_main(self) -> bool:
        """Whether this one writes."""
        return self.index == 0

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process do the block before the others; where it fails, these end silently.

        Raises:
            SystemExit: in another process than the main one, which says why.
        """
        if not self.is_main and not self.from_main(None):
            raise SystemExit(1)
        try:
            yield
        except BaseException:
            if self.is_main:
                self.from_main(False)
            raise
        if self.is_main:
            self.from_main(True)

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Let only the main process print and show bars."""
        with ExitStack() as muted:
            if not self.is_main:
                nowhere = muted.enter_context(open(os.devnull, "w", encoding="utf-8"))
                muted.enter_context(redirect_stdout(nowhere))
                muted.enter_context(redirect_stderr(nowhere))
            yield

    def from_main(self, value: Any) -> Any:
        """What the main process gave; of the others, what they gave does not matter."""
        if self.count == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, device=self._transport)
        return box[0]

    def gathered(self, value: T) -> list[T]:
        """What each process gave, in their order, in all of them."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, value)
        return found

    def on_main(self, value: T) -> list[T] | None:
        """What each process gave, in their order, in the main one; None in the others."""
        if self.count == 1:
            return [value]
        found: list[Any] | None = [None] * self.count if self.is_main else None
        torch.distributed.gather_object(value, found, dst=0)
        return found

    def part(self, work: Callable[[], T]) -> T:
        """Do what this process alone has to do.

        Raises:
            PartError: what it was refused, with the process's number.
        """
        try:
            return work()
        except (ValueError, OSError) as error:
            if self.count == 1:
                raise
            raise PartError(f"process {self.index}: {error}") from error

    def dealt(self, rows: Sequence[T]) -> Sequence[T]:
        """Those of this process: every `count`-th."""
        return rows[self.index :: self.count]

    def slice_of(self, length: int, multiple: int = 1) -> slice:
        """The part of 0 .. length - 1 that is this process's; all of them together are the whole.

        Args:
            length: of the whole.
            multiple: parts begin at multiples of it.

        Example:
            >>> [Processes(index, 3).slice_of(10, multiple=2) for index in range(3)]
            [slice(0, 2, None), slice(2, 6, None), slice(6, 10, None)]
        """
        pieces = -(-length // multiple)
        first, end = (pieces * i // self.count * multiple for i in (self.index, self.index + 1))
        return slice(min(first, length), min(end, length))

    def end(self) -> None:
        """Wait for one another, and let go."""
        if self.count > 1:
            self.gathered(None)
            torch.distributed.destroy_process_group()

    @property
    def _transport(self) -> torch.device | None:
        return None if self.device.type == "cpu" else self.device
