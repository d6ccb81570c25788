"""The processes that share one work, and what they tell one another."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Those that share one work, seen from one of them; one that is alone tells itself.

    Example:
        >>> Processes().slice_of(5), Processes(1, 2).slice_of(5)
        (slice(0, 5, None), slice(2, 5, None))
        >>> Processes().gathered("mine"), Processes().from_main("mine")
        (['mine'], 'mine')
    """

    index: int = 0
    """Of this one, 0 .. count - 1: 0 is the main one, which alone writes what all have in
    common."""
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Of this one."""
    connected: bool = False
    """Whether there is a process group: of one alone, too, that a launcher has started."""

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes."""
        return self.index == 0

    def slice_of(self, length: int, multiple: int = 1) -> slice:
        """The part of 0 .. length - 1 that is this process's: in order, as even as can be.

        Args:
            length: of the whole, which all parts together are.
            multiple: parts begin at multiples of it.

        Example:
            >>> [Processes(index, 3).slice_of(10, multiple=2) for index in range(3)]
            [slice(0, 2, None), slice(2, 6, None), slice(6, 10, None)]
        """
        pieces = -(-length // multiple)
        first, end = (pieces * i // self.count * multiple for i in (self.index, self.index + 1))
        return slice(min(first, length), min(end, length))

    def gathered(self, value: T) -> list[T]:
        """What each process gave, by index, in the main one; in the others nothing.

        Tensors in it should be on the CPU.
        """
        if not self.connected:
            return [value]
        found: list[Any] | None = [None] * self.count if self.is_main else None
        dist.gather_object(value, found)
        return found or []

    def from_main(self, value: Any) -> Any:
        """What the main process gave; of the others, what they gave does not matter."""
        if not self.connected:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def summed(self, values: Tensor) -> Tensor:
        """The sum over processes of what each gave, a tensor of any shape, in all of them."""
        if not self.connected:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process do the block before the others; where it fails, these end silently.

        Raises:
            SystemExit: in another process than the main one, which says why.
        """
        if not self.is_main and not self.from_main(False):
            raise SystemExit(1)
        try:
            yield
        except BaseException:
            if self.is_main:
                self.from_main(False)
            raise
        if self.is_main:
            self.from_main(True)


ALONE = Processes()
"""One process, on the CPU."""
