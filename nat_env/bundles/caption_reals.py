"""Real images with captions: COCO, CC3M's tsv and webdataset's shards, read as they are drawn."""

import base64
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.reals import FileReals
from nat_env.images.image_file import Crop
from nat_env.text.captioned_images import WHOLE, captioned_images, is_tsv
from nat_env.text.prompts import short


@dataclass(frozen=True)
class CaptionFile:
    """A file of an image, or the part of a shard or a table that is."""

    path: Path
    offset: int
    size: int
    in_base64: bool

    def read_bytes(self) -> bytes:
        """All of it."""
        with self.path.open("rb") as opened:
            opened.seek(self.offset)
            data = opened.read(self.size)
        return base64.b64decode(data, validate=True) if self.in_base64 else data

    def __str__(self) -> str:
        """What a message calls it."""
        return str(self.path) + ("" if self.size == WHOLE else f" at byte {self.offset}")


@dataclass(frozen=True, eq=False)
class CaptionFiles:
    """Very many of them in little memory."""

    paths: list[Path]
    places: Tensor
    """[n, 3] int64, `Place`s."""
    in_base64: bool

    def __len__(self) -> int:
        """How many there are."""
        return len(self.places)

    def __getitem__(self, number: int, /) -> CaptionFile:
        """One of them."""
        path, offset, size = self.places[number].tolist()
        return CaptionFile(self.paths[path], offset, size, self.in_base64)


def caption_reals(path: Path, bundle: Bundle, crop: Crop = "lanczos") -> FileReals:
    """Images whose captions are prompts of a bundle's table; one warning counts the others.

    Args:
        path: see `captioned_images`.
        bundle: gives prompts, channels and size.
        crop: see `Picture.fitted`.

    Raises:
        ValueError: none of these, damaged, or without an image of a prompt; or half of a few images
            that are tried cannot be read.
    """
    path = Path(os.path.expanduser(path))
    paths: list[Path] = []
    places, rows, others, left_out = [], [], 0, ""
    by_name: Mapping[str, int] = bundle.conditions.by_name
    for caption, place in captioned_images(path, paths):
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
    files = CaptionFiles(paths, torch.tensor(places), is_tsv(path))
    reals = FileReals(files, torch.tensor(rows), shape, crop, prompts=True)
    reals.check()
    return reals
