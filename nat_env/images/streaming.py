"""Image files read by processes beside this one, a few at a time."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nat_env.images.image_file import Crop, ImageFile, read_picture

_WORKERS = 8
"""Processes at most; never more than there are processors for this one."""

_AT_ONCE = 64
"""Images that a process reads before it hands them over: what is read ahead is at most twice as
many of each process, 12 MB each time at 256 x 256, whatever a caller's batches are."""


class ImageFiles(Protocol):
    """Very many of them, by number: `Paths`, or a list."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, number: int, /) -> ImageFile:
        """One of them."""
        ...


@dataclass(frozen=True, eq=False)
class Piece:
    """Some images, read."""

    numbers: list[int]
    images: Tensor
    """[b, C, H, W] uint8; black where an image cannot be read."""
    errors: dict[int, str]
    """Why, by the image's number."""


@dataclass(frozen=True, eq=False)
class _Files(Dataset[Piece]):
    """Gives pieces for lists of numbers: a data set of which an item is a piece already."""

    files: ImageFiles
    shape: tuple[int, int, int]
    crop: Crop

    def __getitem__(self, numbers: list[int]) -> Piece:
        channels, *size = self.shape
        images = torch.zeros(len(numbers), *self.shape, dtype=torch.uint8)
        errors: dict[int, str] = {}
        for place, number in enumerate(numbers):
            file = self.files[number]
            try:
                picture = read_picture(file)
                fitted = picture.fitted((size[0], size[1]), channels, self.crop)
            except Exception as error:  # whatever a decoder raises on bytes that it did not expect
                errors[number] = f"{file} ({error})"
            else:
                images[place] = torch.from_numpy(fitted)
        return Piece(numbers, images, errors)


def streamed(
    files: ImageFiles,
    numbers: Iterable[int],
    shape: tuple[int, int, int],
    crop: Crop = "lanczos",
) -> Iterator[Piece]:
    """Read images in the order of `numbers`, ahead of what is asked for.

    Args:
        files: all there are.
        numbers: of those to read; any of them as often as it occurs.
        shape: channels, height and width that they are brought to.
        crop: how, see `Picture.fitted`.

    Yields:
        Pieces of at most 64 images. One that cannot be read is told in its piece and stops nothing.
    """
    wanted = list(numbers)
    pieces = [wanted[first : first + _AT_ONCE] for first in range(0, len(wanted), _AT_ONCE)]
    workers = min(_WORKERS, len(pieces) - 1, _processors())
    loader = DataLoader(
        _Files(files, shape, crop),
        sampler=pieces,
        batch_size=None,
        num_workers=max(workers, 0),
        generator=torch.Generator(),  # of the processes' seeds, else drawn from everybody's
    )
    return iter(loader)


def _processors() -> int:
    """That this process may use; torch warns of more workers."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
