"""Paths of very many files in little memory."""

import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray


class Paths(Sequence[Path]):
    """Files below one folder: their names in one string of bytes, a `Path` made when asked for.

    A million of ImageNet's take 50 MB instead of 400, and a process that reads them beside this one
    shares the bytes with it.

    Example:
        >>> paths = Paths.of(Path("cats"), ["a/0.png", "a/1.png", "b/0.png"])
        >>> len(paths), paths[-1], list(paths[::2])
        (3, PosixPath('cats/b/0.png'), [PosixPath('cats/a/0.png'), PosixPath('cats/b/0.png')])
    """

    def __init__(
        self, folder: Path, names: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> None:
        """Those whose names below `folder` are `names[start:end]`; see also `of`."""
        self.folder, self._names, self._starts, self._ends = folder, names, starts, ends

    @classmethod
    def of(cls, folder: Path, names: Iterable[str]) -> Self:
        """Files by their names below `folder`."""
        blob, ends = bytearray(), array("q")
        for name in names:
            blob += os.fsencode(name)
            ends.append(len(blob))
        upper = np.array(ends, dtype=np.int64)
        lower = np.zeros_like(upper)
        lower[1:] = upper[:-1]
        return cls(folder, bytes(blob), lower, upper)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> "Paths": ...
    def __getitem__(self, index: int | slice) -> "Path | Paths":
        """One of them, or some, which share the names' bytes."""
        if isinstance(index, slice):
            return Paths(self.folder, self._names, self._starts[index], self._ends[index])
        return self.folder / self.name(index)

    def name(self, index: int) -> str:
        """Of one of them, below the folder."""
        return os.fsdecode(self._names[self._starts[index] : self._ends[index]])

    @property
    def nbytes(self) -> int:
        """Of the names and of where each begins and ends."""
        return len(self._names) + self._starts.nbytes + self._ends.nbytes
