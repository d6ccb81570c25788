"""Images of a folder with one sub-folder per class: which there are, and their pixels."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

_DARK_BITS = 14
"""Values of so many bits, or fewer, are at most a quarter of the brightness of 16 bits."""

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
        first picture, and a camera's note on how it was held is followed. A warning names images
        of 16 bits a channel that use few of them.

    Raises:
        ValueError: files that are damaged or no images; it names them.
    """
    images = torch.empty((len(paths), *size, channels), dtype=torch.uint8)
    broken = []
    brightest: dict[Path, int] = {}
    for index, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                if image.mode.startswith("I;16"):
                    brightest[path] = int(np.asarray(image).max())
                picture = _opaque(ImageOps.exif_transpose(image))
        except Exception as error:  # whatever a decoder raises on bytes that it did not expect
            broken.append(f"{path} ({error})")
            continue
        picture = ImageOps.fit(picture, (size[1], size[0]), Image.Resampling.LANCZOS)
        pixels = np.array(picture.convert("L" if channels == 1 else "RGB"))
        images[index] = torch.from_numpy(pixels).view(*size, channels)
    if broken:
        raise ValueError(
            f"folder: {len(broken)} of {len(paths)} images cannot be read; repair or remove "
            f"{_listed(broken)}"
        )
    bits = max(brightest.values(), default=0).bit_length()
    if 0 < bits <= _DARK_BITS:  # 12 bits of a microscope or a scanner, say
        warnings.warn(
            f"folder: {len(brightest)} of {len(paths)} images have 16 bits a channel but no value "
            f"of more than {bits}: they are dark; unless they are meant to be, multiply "
            f"the values by {2 ** (16 - bits)} in {_listed(brightest)}",
            stacklevel=2,
        )
    return images.permute(0, 3, 1, 2).contiguous()


def _opaque(image: Image.Image) -> Image.Image:
    """In RGB, on white where it is transparent."""
    if image.mode.startswith("I;16"):  # Pillow would cut off at 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode!r}; allowed are 8 or 16 bits a channel")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


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
