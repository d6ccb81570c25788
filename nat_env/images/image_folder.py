"""Images of a folder with one sub-folder per class: which there are, and their pixels."""

import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nat_env.images.image_file import Crop, ImageFile, Picture, check_crop, read_picture
from nat_env.images.paths import Paths

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

_DARK_BITS = 2
"""An image that leaves so many bits unused, or more, is at most a quarter as bright as it could."""

_PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}
"""How sub-folders are called that are no classes but parts of a data set."""

_SHOWN = 5
"""Paths that a message names; of more it says how many."""


@dataclass(frozen=True)
class ImageFolder:
    """What `find_images` found."""

    path: Path
    paths: Paths
    """Of all images, class by class, in order of their names."""
    counts: Mapping[str, int]
    """Images of each class by its sub-folder's name, in the same order."""
    ignored: Paths
    """What is neither a class's sub-folder nor an image in one: README, .DS_Store, ..."""

    @property
    def files(self) -> Mapping[str, Paths]:
        """The images by sub-folder."""
        ends = list(accumulate(self.counts.values()))
        starts = [0, *ends[:-1]]
        return {name: self.paths[a:b] for name, a, b in zip(self.counts, starts, ends, strict=True)}

    @property
    def classes(self) -> NDArray[np.int64]:
        """Of each image the number of its class, in order of the sub-folders' names [n]."""
        return np.repeat(np.arange(len(self.counts)), list(self.counts.values()))

    def __str__(self) -> str:
        """One line on what is there."""
        counts = self.counts.values()
        line = f"{self.path}: {sum(counts)} images, {len(counts)} classes"
        line += f" of {min(counts)} to {max(counts)} images"
        if self.ignored:
            line += f"; ignored {len(self.ignored)} other files: {_listed(self.ignored)}"
        return line


def find_images(folder: Path) -> ImageFolder:
    """Look for images in the sub-folders of `folder`, by their suffix (see `SUFFIXES`).

    Names that start with a dot are ignored, as is all that lies deeper. No file is opened or asked
    about: a million are found in seconds, see `Paths` for what they take.

    Raises:
        ValueError: not a folder, one without sub-folders, one whose sub-folders are a data set's
            parts (train, val), or a sub-folder without images.
    """
    folder = Path(os.path.expanduser(folder))
    if not folder.is_dir():
        raise ValueError(f"folder: {str(folder)!r} is not a folder; allowed is one of images")
    subs, ignored = [], []
    for entry in _sorted(folder):
        (subs if entry.is_dir() and entry.name[0] != "." else ignored).append(entry.name)
    if not subs:
        raise ValueError(
            f"folder: {str(folder)!r} has no sub-folders; put the images of each class into a "
            "sub-folder with the class's name"
        )
    _refuse_parts(folder, subs)
    names, counts = [], {}
    for sub in subs:
        entries = _sorted(folder / sub)
        images = [entry.name for entry in entries if _is_image(entry)]
        if not images:
            deeper = any(_is_image(p) for e in entries if e.is_dir() for p in _entries(e.path))
            remedy = (
                f"its own sub-folders do: is {str(folder / sub)!r} the folder that is meant?"
                if deeper
                else f"put some into it, or remove it; allowed are {', '.join(sorted(SUFFIXES))}"
            )
            raise ValueError(f"folder: {str(folder / sub)!r} holds no images; {remedy}")
        counts[sub] = len(images)
        names += [f"{sub}/{name}" for name in images]
        if len(images) < len(entries):
            known = set(images)
            ignored += [f"{sub}/{entry.name}" for entry in entries if entry.name not in known]
    return ImageFolder(folder, Paths.of(folder, names), counts, Paths.of(folder, ignored))


def _refuse_parts(folder: Path, subs: Sequence[str]) -> None:
    """Refuse the folder above `train`: its parts would be taken for classes.

    Raises:
        ValueError: all sub-folders are named as parts of a data set are.
    """
    if not {name.casefold() for name in subs} <= _PARTS:
        return
    inside = next((name for name in subs if name.casefold().startswith("train")), subs[0])
    raise ValueError(
        f"folder: {str(folder)!r} has the parts of a data set ({', '.join(subs)}) where the "
        f"sub-folders of classes are expected: is {str(folder / inside)!r} the folder that is "
        "meant?"
    )


def read_images(
    files: Sequence[ImageFile],
    size: tuple[int, int],
    channels: int,
    crop: Crop = "lanczos",
    argument: str = "folder",
    trial: bool = False,
) -> Tensor:
    """Images at one size: what does not fit the shape is cropped, from both sides alike.

    Args:
        files: one image each.
        size: height and width.
        channels: 1 (grey) or 3.
        crop: how, see `Picture.fitted`.
        argument: what the user calls where they are.
        trial: whether they are a few of many, to see whether the rest is worth a try.

    Returns:
        [n, channels, height, width] uint8. Transparent pixels are white, of an animation it is the
        first picture, and a camera's note on how it was held is followed. One warning names images
        that use few of their bits, where most do, and those with damage beside their pixels.

    Raises:
        ValueError: files that are damaged or no images, of a trial half of them; it names them.
    """
    check_crop(crop, size)
    images = torch.zeros((len(files), channels, *size), dtype=torch.uint8)
    broken, notes = [], _Notes()
    for index, file in enumerate(files):
        try:
            picture = read_picture(file)
        except Exception as error:  # whatever a decoder raises on bytes that it did not expect
            broken.append(f"{file} ({error})")
            continue
        images[index] = torch.from_numpy(picture.fitted(size, channels, crop))
        notes.add(str(file), picture)
    if broken and (not trial or 2 * len(broken) >= len(files)):
        raise ValueError(
            f"{argument}: {len(broken)} of {len(files)} images {'that were tried ' * trial}cannot "
            f"be read; repair or remove {_listed(broken)}"
        )
    if text := notes.text():
        warnings.warn(f"{argument}: {text}", stacklevel=2)
    return images


class _Notes:
    """What is to be said of the images of a folder, in one sentence."""

    def __init__(self) -> None:
        self.used: dict[int, dict[str, int]] = {8: {}, 16: {}}
        """By bits of a channel: how many of them each image uses."""
        self.damaged: list[str] = []

    def add(self, name: str, picture: Picture) -> None:
        self.used[picture.bits][name] = picture.used
        if picture.damage:
            self.damaged.append(f"{name} ({picture.damage})")

    def text(self) -> str:
        """Empty where there is nothing to say."""
        total, said = sum(map(len, self.used.values())), []
        for bits, images in self.used.items():
            dark = {name: used for name, used in images.items() if 0 < used <= bits - _DARK_BITS}
            if 2 * len(dark) > len(images):  # 12 bits of a microscope or a scanner, say
                most = max(dark.values())
                said.append(
                    f"{len(dark)} of {total} images have {bits} bits a channel but no value of "
                    f"more than {most}: they are dark; unless they are meant to be, multiply the "
                    f"values by {2 ** (bits - most)} in {_listed(dark)}"
                )
        if self.damaged:
            said.append(
                f"{len(self.damaged)} of {total} images are read without what is damaged beside "
                f"their pixels, and so perhaps not upright: {_listed(self.damaged)}"
            )
        return "; ".join(said)


def _is_image(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    return suffix in SUFFIXES and entry.name[0] != "." and not entry.is_dir()


def _sorted(folder: Path) -> list[os.DirEntry[str]]:
    return sorted(_entries(folder), key=lambda entry: entry.name)


def _entries(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder, one after the other: the system says with each name what it is."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise ValueError(f"folder: {str(folder)!r} cannot be looked into ({error})") from error


def _listed(things: Collection[Path | str]) -> str:
    more = f" and {len(things) - _SHOWN} more" if len(things) > _SHOWN else ""
    return ", ".join(map(str, islice(things, _SHOWN))) + more
