"""Real images as a discriminator draws them: in memory or from files, raw or reconstructed."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from nat_env.frozen.protocol import Tokenizer
from nat_env.frozen.transfers import sent
from nat_env.images.image_file import Crop
from nat_env.images.image_folder import read_images
from nat_env.images.streaming import ImageFiles, Piece, streamed
from nat_env.models.pixels import to_float

_MOST_UNREADABLE = 10
"""Images, one after the other, that are tried before it is an error."""

_TRIED = 64
"""So many images at most are read beforehand."""

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
        """Images [b, C, H, W] float32 in [0, 1], a batch for each of `chosen`, numbers [b].

        On the host, or on the device that made them.
        """
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

    def of_names(self, names: Sequence[str], numbers: Mapping[str, int]) -> Self | None:
        """Those whose conditions another table has, by its numbers; None where it has none.

        Args:
            names: of the conditions here.
            numbers: of the conditions there, by name.

        Example:
            >>> reals = TensorReals(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]))
            >>> found = reals.of_names(["a cat", "a dog"], {"a bird": 0, "a dog": 1})
            >>> found.conditions.tolist()
            [1]
        """
        renumbered = torch.tensor([numbers.get(name, -1) for name in names])[self.conditions]
        kept = renumbered >= 0
        if not bool(kept.any()):
            return None
        ids = None if self.ids is None else self.ids[kept]
        return replace(self, images=self.images[kept], conditions=renumbered[kept], ids=ids)


@dataclass(frozen=True, eq=False)
class FileReals:
    """Images of files, read when they are drawn: in memory are a batch and what is read ahead.

    Nobody can look into a million files beforehand. In place of one that cannot be read when it is
    drawn stands the next that can, with a warning: of the same class, or, with its own prompt,
    whatever it shows. Ten that lie one after the other are an error.
    """

    files: ImageFiles
    conditions: Tensor
    """[n] int64; of prompts, that of the stand-in once there is one."""
    image_shape: tuple[int, int, int]
    """That they are brought to, see `Picture.fitted`."""
    crop: Crop = "lanczos"
    """How."""
    prompts: bool = False
    """Whether conditions are prompts, not classes."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Numbers of those that could not be read so far, with name and reason."""

    def check(self) -> None:
        """Read a few images, spread evenly, for what is to be said of all, see `read_images`.

        Raises:
            ValueError: half of them or more cannot be read.
        """
        channels, *size = self.image_shape
        tried = range(0, len(self.files), math.ceil(len(self.files) / _TRIED))
        files = [self.files[number] for number in tried]
        read_images(files, (size[0], size[1]), channels, self.crop, self._argument, trial=True)

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
        pieces = streamed(self.files, numbers, self.image_shape, self.crop)
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
                self._note(number, piece.errors[number])
            if number in self.unreadable:  # or was: its prompt is the other's now
                piece.images[place] = self._stand_in(number)
        return piece.images

    def _stand_in(self, number: int) -> Tensor:
        """The next image that can be read [C, H, W] uint8, whose condition becomes that of this."""
        tried = {str(self.files[number])}
        for other in self._after(number):
            name = str(self.files[other])
            if name in tried:  # one image has several captions
                continue
            if len(tried) == _MOST_UNREADABLE:
                break
            tried.add(name)
            if other in self.unreadable:
                continue
            (piece,) = streamed(self.files, [other], self.image_shape, self.crop)
            if not piece.errors:
                self.conditions[number] = self.conditions[other]
                return piece.images[0]
            self._note(other, piece.errors[other])
        raise ValueError(
            f"{self._argument}: {self.unreadable[number]} cannot be read, nor can the "
            f"{len(tried) - 1} images {'' if self.prompts else 'of its class '}after it; repair or "
            "remove them, and see whether the disk is still there"
        )

    def _after(self, number: int) -> Iterator[int]:
        """Numbers of those that may stand in for an image, the nearest first."""
        if self.prompts:
            alike = torch.arange(len(self.files))
        else:
            alike = (self.conditions == self.conditions[number]).nonzero().flatten()
        place = int(torch.searchsorted(alike, number))
        return map(int, alike.roll(-place)[1:].numpy())

    def _note(self, number: int, error: str) -> None:
        if number in self.unreadable:
            return
        self.unreadable[number] = error
        other = "the next one with its prompt" if self.prompts else "another image of its class"
        warnings.warn(
            f"{self._argument}: {error} cannot be read; {other} is taken instead "
            f"({len(self.unreadable)} so far of {len(self.files)}); repair or remove it",
            stacklevel=2,
        )

    @property
    def _argument(self) -> str:
        return "real_folder" if self.prompts else "folder"


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
            yield self.tokenizer.decode(self.tokenizer.encode(sent(images, self.device)))


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
