"""Real images as a discriminator draws them: in memory or from a folder, raw or reconstructed."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nat_env.bundles.image_folder import find_images, read_images
from nat_env.models.pixels import to_float
from nat_env.models.protocol import Tokenizer

if TYPE_CHECKING:
    from nat_env.bundles.bundle import Bundle

REALS = ("reconstructed", "raw")

KEPT_BYTES = 2**30
"""Images of a folder that take no more are read at once; of more, those that are drawn."""

_WORKERS = 2
"""Processes that read images ahead while a discriminator learns."""


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
            ValueError: another shape or dtype, no images, or negative numbers.
        """
        images, conditions, ids = self.images, self.conditions, self.ids
        known = images.dtype in (torch.uint8, torch.float32)
        if images.ndim != 4 or not known or not len(images):
            raise ValueError(
                f"reals: got images {images.dtype} {tuple(images.shape)}, allowed is uint8 or "
                "float32 [n >= 1, C, H, W]"
            )
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
    """That they are resized to, see `read_images`."""

    def __len__(self) -> int:
        """N."""
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        """One image [C, H, W] float32 in [0, 1]."""
        channels, height, width = self.image_shape
        return to_float(read_images([self.paths[number]], (height, width), channels)[0])

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[Tensor]:
        """See `Reals`."""
        numbers = [batch.tolist() for batch in chosen]
        workers = min(_WORKERS, len(numbers) - 1)
        return iter(DataLoader(self, batch_sampler=numbers, num_workers=workers))


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


def discriminator_reals(
    bundle: "Bundle", reals: str = "reconstructed", folder: Path | None = None
) -> Reals:
    """Real images of a bundle's or of one's own.

    Args:
        bundle: holds images with their tokens, and the tokenizer.
        reals: `raw`, or `reconstructed`: through the tokenizer, as every generated image went.
            The tokenizer's own traces then tell nothing, and the discriminator has to look at
            what the policy can change.
        folder: take the images from here, see `folder_reals`, instead of from the bundle.

    Raises:
        ValueError: another name, a folder that does not fit the bundle, or no images at all.
    """
    if reals not in REALS:
        raise ValueError(f"reals: got {reals!r}, allowed are {REALS}")
    raw = bundle.require("reals") if folder is None else folder_reals(folder, bundle)
    if reals == "raw":
        return raw
    if not isinstance(raw, TensorReals):
        return ReconstructedReals(raw, bundle.tokenizer, bundle.device)
    return _reconstructed(raw, bundle.tokenizer, bundle.device)


def folder_reals(folder: Path, bundle: "Bundle") -> TensorReals | FolderReals:
    """Images of a folder with one sub-folder per condition, at the bundle's size.

    Args:
        folder: sub-folders carry the conditions' names, or their numbers.
        bundle: gives conditions, channels and size.

    Returns:
        Images in memory, or read as they are drawn where they take more than `KEPT_BYTES`.

    Raises:
        ValueError: a sub-folder that is no condition, or what `find_images` and `read_images`
            refuse.
    """
    found = find_images(folder)
    try:
        numbers = bundle.conditions.numbers(list(found.files))
    except ValueError as error:
        raise ValueError(
            f"folder: {str(folder)!r} has a sub-folder that is no class of bundle "
            f"{bundle.name!r}: {error}"
        ) from None
    by_name = dict(zip(found.files, numbers, strict=True))
    conditions = torch.tensor([by_name[path.parent.name] for path in found.paths])
    height, width = bundle.tokenizer.image_size
    shape = (bundle.tokenizer.channels, height, width)
    if math.prod(shape) * len(found.paths) > KEPT_BYTES:
        return FolderReals(found.paths, conditions, shape)
    return TensorReals(read_images(found.paths, (height, width), shape[0]), conditions)


def _reconstructed(raw: TensorReals, tokenizer: Tokenizer, device: torch.device) -> TensorReals:
    decoded = []
    for numbers in torch.arange(len(raw.images)).split(256):
        if raw.ids is not None:
            ids = raw.ids[numbers].to(device)
        else:
            (images,) = raw.batches([numbers])
            ids = tokenizer.encode(images.to(device))
        decoded.append(tokenizer.decode(ids).mul(255).round().byte().cpu())
    return TensorReals(torch.cat(decoded), raw.conditions, raw.ids)
