"""Real images with captions: COCO, CC3M's tsv and webdataset's shards, read as they are drawn."""

import base64
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.image_file import read_picture
from nat_env.models.pixels import to_float
from nat_env.text.captioned_images import WHOLE, captioned_images, is_tsv
from nat_env.text.prompts import short

WORKERS = 2
"""Processes that read images ahead while a discriminator learns."""

TRIED = 64
"""Images that are read beforehand, spread evenly: where half of them cannot be, it is refused."""

STAND_INS = 16
"""Images that are tried, one after the other, in place of one that cannot be read."""


@dataclass(eq=False)
class CaptionReals(Dataset[tuple[Tensor, int]]):
    """Images with their prompts' rows, of which a few numbers each are in memory.

    In place of an image that cannot be read stands the next one that can, with its own prompt:
    `conditions` then has that prompt's row, and the first such image is warned of. A training of
    days does not end for one of a million images.
    """

    files: list[Path]
    places: Tensor
    """[n, 3] int64, `Place`s."""
    conditions: Tensor
    """[n] int64."""
    image_shape: tuple[int, int, int]
    """That they are resized to, see `Picture.fitted`."""
    in_base64: bool = False
    unreadable: set[int] = field(default_factory=set)
    """Numbers of the images drawn so far that others stand in for."""

    def __len__(self) -> int:
        """N."""
        return len(self.places)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        """An image [C, H, W] float32 in [0, 1], and its number: another where it is a stand-in.

        Raises:
            ValueError: neither it nor those that might stand in for it can be read.
        """
        wrong = ""
        for step in range(min(STAND_INS, len(self))):
            used = (number + step) % len(self)
            try:
                return self.image(used), used
            except Exception as error:  # whatever a decoder raises on bytes that it did not expect
                wrong = wrong or f"{self.name(used)} ({error})"
        raise ValueError(
            f"real_folder: {wrong} cannot be read, nor can the {step} that follow; repair or "
            "remove them"
        )

    def image(self, number: int) -> Tensor:
        """The image of this number [C, H, W] float32 in [0, 1].

        Raises:
            Exception: whatever its decoder does.
        """
        channels, height, width = self.image_shape
        picture = read_picture(self._bytes(number))
        return to_float(torch.from_numpy(picture.fitted((height, width), channels)))

    def name(self, number: int) -> str:
        """What a message calls it."""
        file, offset, size = self.places[number].tolist()
        return str(self.files[file]) + ("" if size == WHOLE else f" at byte {offset}")

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[Tensor]:
        """See `nat_env.bundles.reals.Reals`."""
        numbers = list(chosen)
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        loader = DataLoader(
            self,
            batch_sampler=[batch.tolist() for batch in numbers],
            num_workers=min(WORKERS, len(numbers) - 1, processors),
            generator=torch.Generator(),  # of the workers' seeds, else drawn from everybody's
        )
        for asked, (images, used) in zip(numbers, loader, strict=True):
            replaced = (asked != used).nonzero()[:, 0]
            if len(replaced):
                self._tell(asked[replaced].tolist())
                self.conditions[asked[replaced]] = self.conditions[used[replaced]]
            yield images

    def check(self) -> None:
        """Read a few images, spread evenly.

        Raises:
            ValueError: half of them or more cannot be read.
        """
        tried = torch.linspace(0, len(self) - 1, min(TRIED, len(self))).round().long().tolist()
        wrong = []
        for number in tried:
            try:
                self.image(number)
            except Exception as error:  # as above
                wrong.append(f"{self.name(number)} ({error})")
        if 2 * len(wrong) >= len(tried):
            raise ValueError(
                f"real_folder: {len(wrong)} of {len(tried)} images that were tried cannot be read, "
                f"the first is {wrong[0]}"
            )

    def _tell(self, numbers: list[int]) -> None:
        first = not self.unreadable
        self.unreadable.update(numbers)
        if first:
            warnings.warn(
                f"real_folder: {self.name(numbers[0])} cannot be read: the next image and its "
                "prompt stand in for it, as for others of its kind that are drawn",
                stacklevel=3,
            )

    def _bytes(self, number: int) -> bytes:
        file, offset, size = self.places[number].tolist()
        with self.files[file].open("rb") as opened:
            opened.seek(offset)
            data = opened.read(size)
        return base64.b64decode(data, validate=True) if self.in_base64 else data


def caption_reals(path: Path, bundle: Bundle) -> CaptionReals:
    """Images whose captions are prompts of a bundle's table; one warning counts the others.

    Args:
        path: see `captioned_images`.
        bundle: gives prompts, channels and size.

    Raises:
        ValueError: none of these, damaged, or without an image of a prompt; or half of a few images
            that are tried cannot be read.
    """
    path = Path(os.path.expanduser(path))
    files: list[Path] = []
    places, rows, others, left_out = [], [], 0, ""
    by_name: Mapping[str, int] = bundle.conditions.by_name
    for caption, place in captioned_images(path, files):
        row = by_name.get(caption)
        if row is None:
            others, left_out = others + 1, left_out or caption
            continue
        places.append(place)
        rows.append(row)
    told = (
        f"real_folder: {others} of {others + len(rows)} images of {str(path)!r} have captions that "
        f"are no prompts of the table, {short(left_out)!r} for one"
    )
    if not rows:
        what = told if others else f"real_folder: {str(path)!r} holds no images with captions"
        raise ValueError(f"{what}; give the captions of these images as prompts, too")
    if others:
        warnings.warn(f"{told}, and are left out", stacklevel=2)
    height, width = bundle.tokenizer.image_size
    shape = (bundle.tokenizer.channels, height, width)
    reals = CaptionReals(files, torch.tensor(places), torch.tensor(rows), shape, is_tsv(path))
    reals.check()
    return reals
