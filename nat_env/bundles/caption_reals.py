"""Real images with captions: COCO, CC3M's tsv and webdataset's shards, read as they are drawn."""

import base64
import os
import tarfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.image_file import read_picture
from nat_env.bundles.image_folder import SUFFIXES
from nat_env.bundles.reals import read_ahead
from nat_env.models.pixels import to_float
from nat_env.text.prompts import one_line, read_captions, short, utf8

TRIED = 64
"""Images that are read beforehand, spread evenly: where half of them cannot be, it is refused."""

STAND_INS = 16
"""Images that are tried, one after the other, in place of one that cannot be read."""

WHOLE = -1
"""In place of a size: all of the file."""


class Place(NamedTuple):
    """Where the bytes of an image are."""

    file: int
    """In a list of files."""
    offset: int
    size: int


class Captioned(NamedTuple):
    """An image and what it shows."""

    caption: str
    place: Place


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
        for asked, (images, used) in zip(numbers, read_ahead(self, numbers), strict=True):
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
        path: a captions_*.json as COCO's, or the folder that has one of them, alone or in
            `annotations`; a .tsv as CC3M's, with a caption and an image in base64 in each line; a
            .tar of webdataset's, or a folder of them, with a .txt beside each image.
        bundle: gives prompts, channels and size.

    Raises:
        ValueError: none of these, damaged, or without an image of a prompt; or half of a few images
            that are tried cannot be read.
    """
    path = Path(os.path.expanduser(path))
    files: list[Path] = []
    in_base64 = path.suffix.lower() == ".tsv"
    if shards := _shards(path):
        found = _of_shards(shards, files)
    elif in_base64:
        found = _of_tsv(path, files)
    else:
        found = _of_coco(_captions_file(path), files)
    places, rows, others, left_out = [], [], 0, ""
    by_name: Mapping[str, int] = bundle.conditions.by_name
    for caption, place in found:
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
    reals = CaptionReals(files, torch.tensor(places), torch.tensor(rows), shape, in_base64)
    reals.check()
    return reals


def _shards(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.tar"))
    return [path] if path.suffix.lower() == ".tar" else []


def _captions_file(path: Path) -> Path:
    """Of COCO: the file itself, or the one of a folder."""
    if path.is_file() and path.suffix.lower() == ".json":
        return path
    places = (path, path / "annotations")
    found = [file for place in places for file in sorted(place.glob("captions*.json"))]
    if len(found) != 1:
        names = ", ".join(str(file) for file in found) or "none"
        raise ValueError(
            f"real_folder: {str(path)!r} has {len(found)} files captions*.json ({names}), allowed "
            "are one such file or a folder of one, a .tsv, a .tar or a folder of them"
        )
    return found[0]


def _of_coco(path: Path, files: list[Path]) -> Iterator[Captioned]:
    captions = [caption for caption in read_captions(path) if caption.text and caption.image]
    split = path.stem.removeprefix("captions_")
    above = path.parent.parent
    folders = [path.parent, path.parent / split, above, above / split, above / "images"]
    first = captions[0].image if captions else ""
    folder = next((place for place in folders if first and (place / first).is_file()), None)
    if captions and folder is None:
        raise ValueError(
            f"real_folder: {path} tells of {first!r}, which is in none of "
            f"{', '.join(str(place) for place in folders)}; put the images into one of them"
        )
    numbers: dict[str, int] = {}
    for text, image in captions:
        assert folder is not None
        if image not in numbers:
            numbers[image] = len(files)
            files.append(folder / image)
        yield Captioned(text, Place(numbers[image], 0, WHOLE))


def _of_tsv(path: Path, files: list[Path]) -> Iterator[Captioned]:
    if not path.is_file():
        raise ValueError(f"real_folder: {str(path)!r} is not there")
    files.append(path)
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text, tab, image = line.partition(b"\t")
            image = image.partition(b"\t")[0].strip()
            if image.startswith((b"http:", b"https:")):
                raise ValueError(
                    f"real_folder: line {number} of {str(path)!r} has an address in its second "
                    "column, allowed is an image in base64; load the images down first"
                )
            if tab and image:
                caption = one_line(utf8(text, path, f"line {number}"))
                start = offset + line.index(image, len(text) + 1)
                yield Captioned(caption, Place(0, start, len(image)))
            offset += len(line)


def _of_shards(shards: list[Path], files: list[Path]) -> Iterator[Captioned]:
    for shard in shards:
        files.append(shard)
        images: dict[str, Place] = {}
        texts: dict[str, str] = {}
        try:
            with tarfile.open(shard, "r:") as tar:
                for member in tar:
                    key, _, kind = member.name.rpartition("/")[2].partition(".")
                    key = f"{member.name.rpartition('/')[0]}/{key}"
                    if f".{kind.lower()}" in SUFFIXES:
                        place = Place(len(files) - 1, member.offset_data, member.size)
                        images[key] = place
                    elif kind.lower() == "txt" and (opened := tar.extractfile(member)):
                        data = opened.read()
                        texts[key] = one_line(utf8(data, shard, f"the text {member.name}"))
                _check_end(shard, tar.offset)
        except (tarfile.TarError, OSError) as error:
            raise ValueError(
                f"real_folder: {str(shard)!r} is no tar without compression, or cut short "
                f"({error}); load it down anew"
            ) from None
        for key, place in images.items():
            if texts.get(key):
                yield Captioned(texts[key], place)


def _check_end(shard: Path, offset: int) -> None:
    """Check that a block of zeros ends a tar (POSIX.1-1988, ustar): half of one reads as a whole.

    Raises:
        tarfile.ReadError: there is none.
    """
    with shard.open("rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it has no end")
