"""Data sets of images with captions: which there are, and where the bytes of each image are."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nat_env.text.prompts import one_line, read_captions, utf8

WHOLE = -1
"""In place of a size: all of the file."""

_IMAGES = {"jpg", "jpeg", "png", "webp"}
"""In shards."""


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


def captioned_images(path: Path, files: list[Path]) -> Iterator[Captioned]:
    """The captions of a data set, one after the other, with the places of their images.

    Args:
        path: a captions_*.json as COCO's, or the folder that has one of them, alone or in
            `annotations`; a .tsv as CC3M's, with a caption and an image in base64 in each line; a
            .tar of webdataset's, or a folder of them, with a .txt beside each image.
        files: to which the files are added that places are numbers of.

    Raises:
        ValueError: none of these, or damaged.
    """
    if shards := _shards(path):
        return _of_shards(shards, files)
    return _of_tsv(path, files) if is_tsv(path) else _of_coco(_captions_file(path), files)


def is_tsv(path: Path) -> bool:
    """Whether images are in base64, in a table."""
    return path.suffix.lower() == ".tsv"


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
            with tarfile.open(shard, "r:", encoding="utf-8") as tar:
                for member in tar:
                    key, _, kind = member.name.rpartition("/")[2].partition(".")
                    key = f"{member.name.rpartition('/')[0]}/{key}"
                    if kind.lower() in _IMAGES:
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
