"""Images of a folder with one sub-folder per class: which there are, and their pixels."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nat_env.bundles.image_file import Picture, read_picture

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

_DARK_BITS = 2
"""An image that leaves so many bits unused, or more, is at most a quarter as bright as it could."""

_SHOWN = 5
"""Paths that a message names; of more it says how many."""


@dataclass(frozen=True)
class ImageFolder:
    """What `find_images` found."""

    path: Path
    files: Mapping[str, tuple[Path, ...]]
    """By sub-folder; both in order of their names."""
    ignored: tuple[Path, ...]
    """What is neither a class's sub-folder nor an image in one: README, .DS_Store, ..."""

    @property
    def paths(self) -> list[Path]:
        """Of all images, class by class."""
        return [path for paths in self.files.values() for path in paths]

    def __str__(self) -> str:
        """One line on what is there."""
        counts = [len(paths) for paths in self.files.values()]
        line = f"{self.path}: {sum(counts)} images, {len(counts)} classes"
        line += f" of {min(counts)} to {max(counts)} images"
        if self.ignored:
            line += f"; ignored {len(self.ignored)} other files: {_listed(self.ignored)}"
        return line


def find_images(folder: Path) -> ImageFolder:
    """Look for images in the sub-folders of `folder`, by their suffix (see `SUFFIXES`).

    Names that start with a dot are ignored, as is all that lies deeper.

    Raises:
        ValueError: not a folder, one without sub-folders, or a sub-folder without images.
    """
    folder = Path(os.path.expanduser(folder))
    if not folder.is_dir():
        raise ValueError(f"folder: {str(folder)!r} is not a folder; allowed is one of images")
    subs, ignored = [], []
    for path in _sorted(folder):
        (subs if path.is_dir() and not path.name.startswith(".") else ignored).append(path)
    if not subs:
        raise ValueError(
            f"folder: {str(folder)!r} has no sub-folders; put the images of each class into a "
            "sub-folder with the class's name"
        )
    files = {}
    for sub in subs:
        entries = _sorted(sub)
        images = [path for path in entries if _is_image(path)]
        if not images:
            deeper = any(_is_image(p) for e in entries if e.is_dir() for p in _sorted(e))
            remedy = (
                f"its own sub-folders do: is {str(sub)!r} the folder that is meant?"
                if deeper
                else f"put some into it, or remove it; allowed are {', '.join(sorted(SUFFIXES))}"
            )
            raise ValueError(f"folder: {str(sub)!r} holds no images; {remedy}")
        files[sub.name] = tuple(images)
        ignored += sorted(set(entries) - set(images))
    return ImageFolder(folder, files, tuple(ignored))


def read_images(paths: Sequence[Path], size: tuple[int, int], channels: int) -> Tensor:
    """Images at one size: what does not fit the shape is cropped, from both sides alike.

    Args:
        paths: of the files.
        size: height and width.
        channels: 1 (grey) or 3.

    Returns:
        [n, channels, height, width] uint8. Transparent pixels are white, of an animation it is the
        first picture, and a camera's note on how it was held is followed. One warning names images
        that use few of their bits, where most do, and those with damage beside their pixels.

    Raises:
        ValueError: files that are damaged or no images; it names them.
    """
    images = torch.empty((len(paths), channels, *size), dtype=torch.uint8)
    broken, notes = [], _Notes()
    for index, path in enumerate(paths):
        try:
            picture = read_picture(path)
        except Exception as error:  # whatever a decoder raises on bytes that it did not expect
            broken.append(f"{path} ({error})")
            continue
        images[index] = torch.from_numpy(picture.fitted(size, channels))
        notes.add(path, picture)
    if broken:
        raise ValueError(
            f"folder: {len(broken)} of {len(paths)} images cannot be read; repair or remove "
            f"{_listed(broken)}"
        )
    if text := notes.text():
        warnings.warn(f"folder: {text}", stacklevel=2)
    return images


class _Notes:
    """What is to be said of the images of a folder, in one sentence."""

    def __init__(self) -> None:
        self.used: dict[int, dict[Path, int]] = {8: {}, 16: {}}
        """By bits of a channel: how many of them each image uses."""
        self.damaged: list[str] = []

    def add(self, path: Path, picture: Picture) -> None:
        self.used[picture.bits][path] = picture.used
        if picture.damage:
            self.damaged.append(f"{path} ({picture.damage})")

    def text(self) -> str:
        """Empty where there is nothing to say."""
        total, said = sum(map(len, self.used.values())), []
        for bits, images in self.used.items():
            dark = {path: used for path, used in images.items() if 0 < used <= bits - _DARK_BITS}
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


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.name[0] != "." and not path.is_dir()


def _sorted(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise ValueError(f"folder: {str(folder)!r} cannot be looked into ({error})") from error


def _listed(things: Iterable[Path | str]) -> str:
    names = [str(thing) for thing in things]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
