"""A study's work in n parts, each for a machine or a job of its own: light to import."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from nat_env.commands.computation import Computation

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Part i of n, counted from 1; the only one of one is the whole."""

    index: int = 1
    """i."""
    count: int = 1
    """n."""

    @staticmethod
    def named(text: str | None) -> "Shard":
        """The part that `i/n` names; the whole of None.

        Raises:
            ValueError: anything else.

        Example:
            >>> Shard.named("3/2")
            Traceback (most recent call last):
            ValueError: shard: got '3/2', allowed is i/n with 1 <= i <= n
        """
        if text is None:
            return WHOLE
        found = re.fullmatch(r"([1-9][0-9]*)/([1-9][0-9]*)", text, re.ASCII)
        if found is None or int(found[1]) > int(found[2]):
            raise ValueError(f"shard: got {text!r}, allowed is i/n with 1 <= i <= n")
        return Shard(int(found[1]), int(found[2]))

    @property
    def name(self) -> str:
        """As names of files have it; nothing of the whole.

        Example:
            >>> Shard(2, 3).name
            '2-of-3'
        """
        return "" if self == WHOLE else f"{self.index}-of-{self.count}"

    def of(self, items: Sequence[T]) -> list[T]:
        """The i-th of the items and every n-th after it.

        Each item is in one of the n parts, whose sizes differ by one at most, also those of any
        items that follow on one another: what costs the same stands together, therefore.

        Example:
            >>> [Shard(i, 3).of("abcdefgh") for i in (1, 2, 3)]
            [['a', 'd', 'g'], ['b', 'e', 'h'], ['c', 'f']]
        """
        return list(items[self.index - 1 :: self.count])


WHOLE = Shard()
"""All of a study."""


@dataclass(frozen=True, kw_only=True)
class ShardOptions(Computation):
    """A study on several machines."""

    shard: str | None = None
    """i/n: do part i of n of the study alone, counted from 1, for n machines or the jobs of an
    array. They write in one folder, or each in one of its own, which are copied together then. The
    report says what is still missing; without --shard that is made, too."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: one is out of its bounds, or a shard that is none.
        """
        super().__post_init__()
        Shard.named(self.shard)

    @property
    def part(self) -> Shard:
        """What `shard` names."""
        return Shard.named(self.shard)
