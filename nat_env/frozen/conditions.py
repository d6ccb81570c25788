"""What images are asked for: an integer everywhere, and a table of what it stands for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nat_env.storage.files import written_aside

_TENSORS = ("context", "pooled")

CHECKED_BYTES = 2**28
"""A tensor of more is on a disk, most likely: whoever computed its rows has looked at them, and
reading all of them again for each table would take minutes."""

_SHOWN = 10
"""Names that a message shows; of more it says how many."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """The table: condition i is `names[i]`, a class or a prompt; condition C is none of them.

    Example:
        >>> conditions = Conditions(("cat", "dog"))
        >>> len(conditions), conditions.null, conditions.numbers(["Dog", "0"])
        (2, 2, [1, 0])
    """

    names: tuple[str, ...]
    context: Tensor | None = None
    """[C + 1, L, E]: what a transformer attends to for each, where that is more than the number:
    the tokens of a prompt. The last row stands for no prompt."""
    pooled: Tensor | None = None
    """[C + 1, P]: one vector for each, likewise."""

    def __post_init__(self) -> None:
        """Check the table.

        Raises:
            ValueError: no names, one that is there twice, or tensors of another number of rows or
                not finite (up to `CHECKED_BYTES`).
        """
        if not self.names:
            raise ValueError("conditions: got no names, allowed is at least one")
        if len(self.by_name) < len(self):
            twice = next(n for i, n in enumerate(self.names) if self.by_name[n] != i)
            raise ValueError(
                f"conditions: got the name {twice!r} twice, allowed is a name of its own for each"
            )
        for name, rank in (("context", 3), ("pooled", 2)):
            table: Tensor | None = getattr(self, name)
            if table is None:
                continue
            if table.ndim != rank or len(table) != len(self) + 1:
                raise ValueError(
                    f"conditions: got {name} {tuple(table.shape)}, allowed are {rank} dimensions, "
                    f"the first of {len(self) + 1}: a row for each name and one for none"
                )
            if table.nbytes <= CHECKED_BYTES and not bool(table.isfinite().all()):
                raise ValueError(f"conditions: got {name} that is not finite")

    def __len__(self) -> int:
        """C: conditions are 0 .. C - 1."""
        return len(self.names)

    @property
    def null(self) -> int:
        """The condition that stands for none, of guidance: C."""
        return len(self)

    def balanced(self, count: int) -> Tensor:
        """Conditions of so many samples [count] int64, as even as can be.

        Of fewer than there are classes those at equal distances in the table, which may be in the
        order of a taxonomy; of prompts the first.

        Example:
            >>> Conditions(tuple("abcdefgh")).balanced(3).tolist()
            [0, 2, 5]
        """
        if self.are_prompts or count >= len(self):
            return balanced_conditions(count, len(self))
        return torch.arange(count) * len(self) // count

    @property
    def are_prompts(self) -> bool:
        """Whether a condition is a text that a transformer attends to, and not a class."""
        return self.context is not None or self.pooled is not None

    @cached_property
    def by_name(self) -> Mapping[str, int]:
        """Conditions by their names as they are written."""
        return {name: number for number, name in enumerate(self.names)}

    @cached_property
    def _by_any_name(self) -> Mapping[str, int]:
        """Conditions by number and by name in lower case."""
        known = {str(number): number for number in range(len(self))}
        return known | {name.casefold(): number for number, name in enumerate(self.names)}

    def rows(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """Copies of the rows of `context` and `pooled`, whichever there are; `null` is one."""
        index = torch.tensor(numbers)
        tables = {name: getattr(self, name) for name in _TENSORS}
        return {name: table[index] for name, table in tables.items() if table is not None}

    def numbers(self, names: Sequence[str], argument: str = "conditions") -> list[int]:
        """Conditions by name or number, in upper or lower case; where names are numbers, they win.

        Names as they are written come first: two may differ in their case alone.

        Args:
            names: names and numbers.
            argument: what they were given as.

        Raises:
            ValueError: names that there are not.
        """
        found = {n: self.by_name.get(n, self._by_any_name.get(n.casefold())) for n in names}
        unknown = [name for name in names if found[name] is None]
        if unknown:
            shown = [f"{number} ({name})" for number, name in enumerate(self.names[:_SHOWN])]
            left = len(self) - len(shown)
            more = f" and {left} more" if left else ""
            raise ValueError(
                f"{argument}: got {', '.join(map(repr, unknown))}, allowed are {', '.join(shown)}"
                f"{more}"
            )
        return [number for name in names if (number := found[name]) is not None]

    def checked(self, conditions: Tensor | np.ndarray | Sequence[int]) -> Tensor:
        """Conditions [B] as a tensor.

        Raises:
            ValueError: not integers, or see `check`.

        Example:
            >>> Conditions(("cat", "dog")).checked([1, 0])
            tensor([1, 0])
        """
        if isinstance(conditions, Tensor):
            tensor = conditions
        else:
            given = np.array([]) if isinstance(conditions, str) else np.asarray(conditions)
            if given.dtype.kind not in "iu" or given.ndim != 1:
                raise ValueError(f"conditions: got {conditions!r}, allowed are integers [B >= 1]")
            tensor = torch.from_numpy(given.astype(np.int64))
        self.check(tensor)
        return tensor

    def check(self, conditions: Tensor) -> None:
        """Check conditions [B].

        Raises:
            ValueError: wrong rank or dtype, none at all, or one out of range.
        """
        if conditions.ndim != 1 or conditions.dtype != torch.int64 or not len(conditions):
            raise ValueError(
                f"conditions: got {conditions.dtype} {tuple(conditions.shape)}, "
                "allowed is int64 [B >= 1]"
            )
        if conditions.min() < 0 or conditions.max() >= len(self):
            raise ValueError(
                f"conditions: got {int(conditions.min())} .. {int(conditions.max())}, "
                f"allowed are 0 .. {len(self) - 1}"
            )

    def check_classes(self, part: str, num_classes: int) -> None:
        """Check that a part of a bundle knows as many classes as there are conditions.

        Raises:
            ValueError: it knows more or fewer.
        """
        if num_classes != len(self):
            raise ValueError(f"{part}: has {num_classes} classes, the bundle {len(self)}")

    def save_tensors(self, path: Path) -> bool:
        """Write what is more than names; gives whether there is anything."""
        tensors = {name: t for name in _TENSORS if (t := getattr(self, name)) is not None}
        if tensors:
            with written_aside(path) as aside:
                save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, aside)
        return bool(tensors)

    @classmethod
    def load(cls, names: Sequence[str], path: Path) -> Self:
        """The table of `names`, with the tensors of `save_tensors` where the file is there.

        Raises:
            ValueError: the file is damaged, or does not fit the names.
        """
        try:
            tensors = load_file(path) if path.is_file() else {}
        except (OSError, SafetensorError) as error:
            raise ValueError(f"conditions: {path} is damaged ({error})") from error
        return cls(tuple(names), *(tensors.get(name) for name in _TENSORS))


def uniform_conditions(count: int, num_conditions: int, seed: int | Sequence[int]) -> Tensor:
    """Conditions drawn one by one, each alike likely: [count] int64.

    So the papers' code draws ImageNet's classes for an FID. Their numbers then differ from each
    other, which adds to the distance what `balanced_conditions` does not.

    Args:
        count: how many.
        num_conditions: they are 0 .. num_conditions - 1.
        seed: of the draw, which is the same for all policies.

    Example:
        >>> uniform_conditions(5, 3, seed=0).tolist()
        [2, 1, 1, 0, 0]
    """
    drawn = np.random.default_rng(seed).integers(num_conditions, size=count)
    return torch.from_numpy(drawn.astype(np.int64))


def balanced_conditions(count: int, num_conditions: int) -> Tensor:
    """Conditions 0, 1, .., num_conditions - 1, 0, ..: [count] int64, as even as can be.

    Example:
        >>> balanced_conditions(5, 3).tolist()
        [0, 1, 2, 0, 1]
    """
    return torch.arange(count) % num_conditions
