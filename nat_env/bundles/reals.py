"""Real images as a discriminator draws them: in memory or from a folder, raw or reconstructed."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nat_env.bundles.image_file import read_picture
from nat_env.frozen.protocol import Tokenizer
from nat_env.models.pixels import to_float

_WORKERS = 2
"""Processes that read images ahead while a discriminator learns."""

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
class FolderReals(Dataset[Tensor]):
    """Images of files, read when they are drawn."""

    paths: Sequence[Path]
    conditions: Tensor
    """[n] int64."""
    image_shape: tuple[int, int, int]
    """That they are resized to, see `Picture.fitted`."""

    def __len__(self) -> int:
        """N."""
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        """One image [C, H, W] float32 in [0, 1]."""
        channels, height, width = self.image_shape
        picture = read_picture(self.paths[number])
        return to_float(torch.from_numpy(picture.fitted((height, width), channels)))

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[Tensor]:
        """See `Reals`."""
        numbers = [batch.tolist() for batch in chosen]
        workers = min(_WORKERS, len(numbers) - 1, _processors())
        generator = torch.Generator()  # of the workers' seeds, else drawn from everybody's
        return iter(
            DataLoader(self, batch_sampler=numbers, num_workers=workers, generator=generator)
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


def _processors() -> int:
    """That this process may use; torch warns of more workers."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
