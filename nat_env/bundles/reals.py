"""Real images as a discriminator draws them: in memory or from a folder, raw or reconstructed."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from nat_env.frozen.protocol import Tokenizer
from nat_env.images.image_file import Crop
from nat_env.images.streaming import Piece, streamed
from nat_env.models.pixels import to_float

_MOST_UNREADABLE = 10
"""Images of a condition, one after the other, that are tried before it is an error."""

_SHOWN = 10
"""Conditions that a message names; of more it says how many."""


class Reals(Protocol):
    """Real images with their conditions, by number."""

    @property
    def conditions(self) -> Tensor:
        """[n] int64."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        ...

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[Tensor]:
        """Images [b, C, H, W] float32 in [0, 1], a batch for each of `chosen`, numbers [b]."""
        ...


@dataclass(frozen=True, eq=False)
class TensorReals:
    """Images in memory."""

    images: Tensor
    """[n, C, H, W] uint8, or float32 in [0, 1]."""
    conditions: Tensor
    """[n] int64."""
    ids: Tensor | None = None
    """[n, N] int64, their tokens, where they are known."""

    def __post_init__(self) -> None:
        """Check the tensors.

        Raises:
            ValueError: another shape or dtype, no images, pixels that are not in 0 .. 1, or
                negative numbers.
        """
        images, conditions, ids = self.images, self.conditions, self.ids
        known = images.dtype in (torch.uint8, torch.float32)
        if images.ndim != 4 or not known or not len(images):
            raise ValueError(
                f"reals: got images {images.dtype} {tuple(images.shape)}, allowed is uint8 or "
                "float32 [n >= 1, C, H, W]"
            )
        if images.is_floating_point():
            low, high = (float(end) for end in images.aminmax())
            if not 0 <= low <= high <= 1:  # nor NaN
                raise ValueError(f"reals: got images of {low} .. {high}, allowed are 0 .. 1")
        if conditions.shape != images.shape[:1] or conditions.dtype != torch.int64:
            raise ValueError(
                f"reals: got conditions {conditions.dtype} {tuple(conditions.shape)}, allowed is "
                f"int64 [{len(images)}]"
            )
        if ids is not None and (ids.ndim != 2 or len(ids) != len(images)):
            raise ValueError(f"reals: got ids {tuple(ids.shape)}, allowed is [{len(images)}, N]")
        for name, numbers in (("conditions", conditions), ("ids", ids)):
            if numbers is not None and int(numbers.min()) < 0:
                raise ValueError(f"reals: got negative {name}, allowed are >= 0")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[Tensor]:
        """See `Reals`."""
        return (to_float(self.images[numbers]) for numbers in chosen)


@dataclass(frozen=True, eq=False)
class FolderReals:
    """Images of files, read when they are drawn: in memory are a batch and what is read ahead.

    Nobody can look into a million files beforehand. One that cannot be read when it is drawn is
    replaced by the next of its condition, with a warning that names it; ten that lie one after the
    other are an error.
    """

    paths: Sequence[Path]
    conditions: Tensor
    """[n] int64."""
    image_shape: tuple[int, int, int]
    """That they are brought to, see `Picture.fitted`."""
    crop: Crop = "lanczos"
    """How."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Numbers of those that could not be read so far, with path and reason."""

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[Tensor]:
        """See `Reals`.

        Raises:
            ValueError: so many images in a row cannot be read that the folder has to be looked at.
        """
        sizes = []
        numbers: list[int] = []
        for batch in chosen:
            numbers += batch.tolist()
            sizes.append(len(batch))
        pieces = streamed(self.paths, numbers, self.image_shape, self.crop)
        ready = torch.zeros(0, *self.image_shape, dtype=torch.uint8)
        for size in sizes:
            parts = [ready]
            while sum(map(len, parts)) < size:
                parts.append(self._whole(next(pieces)))
            everything = torch.cat(parts)  # [at least size, C, H, W]
            ready = everything[size:].clone()  # a view would keep the batch in memory
            yield to_float(everything[:size])

    def _whole(self, piece: Piece) -> Tensor:
        """Images of a piece, others in the place of those that cannot be read."""
        for place, number in enumerate(piece.numbers):
            if number in piece.errors:
                self._note(piece.errors, number)
                piece.images[place] = self._next_of_its_condition(number)
        return piece.images

    def _next_of_its_condition(self, number: int) -> Tensor:
        """The next image that can be read [C, H, W] uint8."""
        alike = (self.conditions == self.conditions[number]).nonzero().flatten()
        place = int((alike == number).nonzero())
        for other in alike.roll(-place - 1)[: _MOST_UNREADABLE - 1].tolist():
            (piece,) = streamed(self.paths, [other], self.image_shape, self.crop)
            if not piece.errors:
                return piece.images[0]
            self._note(piece.errors, other)
        raise ValueError(
            f"folder: {self.unreadable[number]} cannot be read, nor can the "
            f"{min(_MOST_UNREADABLE, len(alike)) - 1} images of its class after it; repair or "
            "remove them, and see whether the disk is still there"
        )

    def _note(self, errors: Mapping[int, str], number: int) -> None:
        if number in self.unreadable:
            return
        self.unreadable[number] = errors[number]
        warnings.warn(
            f"folder: {errors[number]} cannot be read; another image of its class is taken instead "
            f"({len(self.unreadable)} so far of {len(self.paths)}); repair or remove it",
            stacklevel=2,
        )


@dataclass(frozen=True, eq=False)
class ReconstructedReals:
    """Other reals, each through the tokenizer when it is drawn."""

    raw: Reals
    tokenizer: Tokenizer
    device: torch.device

    @property
    def conditions(self) -> Tensor:
        """[n] int64."""
        return self.raw.conditions

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.raw.image_shape

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[Tensor]:
        """See `Reals`."""
        for images in self.raw.batches(chosen):
            yield self.tokenizer.decode(self.tokenizer.encode(images.to(self.device))).cpu()


def check_every_condition(
    conditions: Tensor, names: Sequence[str], argument: str = "reals"
) -> None:
    """Check that there are real images of every condition, and of no other.

    A discriminator that never sees a real image of one could only call its images generated.

    Args:
        conditions: of the real images [n] int64.
        names: of all conditions.
        argument: where the images were given.

    Raises:
        ValueError: naming the conditions that have none.
    """
    counts = conditions.bincount(minlength=len(names)).tolist()
    if len(counts) > len(names):
        raise ValueError(
            f"{argument}: got conditions up to {len(counts) - 1}, allowed are 0 .. {len(names) - 1}"
        )
    missing = [name for name, count in zip(names, counts, strict=True) if not count]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise ValueError(
            f"{argument}: got no images of {', '.join(map(repr, missing[:_SHOWN]))}{more}, allowed "
            f"are images of every one of the {len(names)} conditions"
        )
