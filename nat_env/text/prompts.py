"""Captions from files: lines, COCO's json, CC3M's tsv."""

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nat_env.text.encoder import TextEncoder

_SHOWN = 60
"""Letters of a caption that a message shows."""


class Caption(NamedTuple):
    """A caption and the image that it tells of."""

    text: str
    image: str
    """Of COCO the file's name, of a tsv its second column; empty in a list of lines."""


def read_prompts(path: Path) -> list[str]:
    """The captions of a file, each once, in the order in which they come.

    White space within a caption counts as one space; empty captions are skipped, and one warning
    counts them.

    Args:
        path: a text file with a caption a line; a .tsv as CC3M's, with the caption in the first
            column; or a json as COCO's captions_*.json.

    Raises:
        ValueError: the file cannot be read, is not UTF-8 (it names the line), is a json of another
            kind, or holds no captions.
    """
    prompts: dict[str, None] = {}
    empty = 0
    for caption in read_captions(path):
        if caption.text:
            prompts[caption.text] = None
        else:
            empty += 1
    if not prompts:
        raise ValueError(f"prompts: {str(path)!r} holds no captions, allowed is at least one")
    if empty:
        warnings.warn(f"prompts: {empty} empty captions of {path} are skipped", stacklevel=2)
    return list(prompts)


def read_captions(path: Path) -> Iterator[Caption]:
    """The captions of a file one after the other, empty and repeated ones among them.

    A json is read whole, others line by line.

    Raises:
        ValueError: see `read_prompts`; what is wrong in a line, when it is come to.
    """
    if not path.is_file():
        raise ValueError(f"prompts: {str(path)!r} is no file, allowed are lines, .tsv and .json")
    if path.suffix.lower() == ".json":
        return _coco(path)
    form: Callable[[str], Caption] = _tabbed if path.suffix.lower() == ".tsv" else _plain
    return (form(line) for line in _lines(path))


def fitting_prompts(prompts: Sequence[str], encoder: TextEncoder) -> list[str]:
    """The prompts that an encoder takes; a warning for each reason counts the others.

    These are too long, or in letters that it does not know.

    Raises:
        ValueError: it takes none.
    """
    longest, lengths = encoder.max_length, encoder.lengths(prompts)
    short_ones = [p for p, length in zip(prompts, lengths, strict=True) if length <= longest]
    _tell(
        len(prompts) - len(short_ones),
        len(prompts),
        f"take more than the {longest} tokens of the text encoder, up to {max(lengths)}",
        "shorter ones",
    )
    unknown = unknown_letters(encoder, short_ones)
    example = next(filter(None, unknown), "")
    kept = [p for p, letters in zip(short_ones, unknown, strict=True) if not letters]
    _tell(
        len(short_ones) - len(kept),
        len(short_ones),
        f"have letters that the text encoder does not know, such as {example}",
        "those of its vocabulary",
    )
    return kept


def unknown_letters(encoder: TextEncoder, prompts: Sequence[str]) -> list[str]:
    """Of each prompt the letters that an encoder does not know; empty where it knows all.

    An encoder that does not know all letters there are says so by a method `unknown_letters`.
    """
    if not hasattr(encoder, "unknown_letters"):
        return [""] * len(prompts)
    return encoder.unknown_letters(prompts)  # type: ignore[attr-defined]


def _tell(left_out: int, count: int, why: str, allowed: str) -> None:
    if left_out == count:
        raise ValueError(f"prompts: {left_out} of {count} {why}; allowed are {allowed}")
    if left_out:
        warnings.warn(f"prompts: {left_out} of {count} {why}, and are left out", stacklevel=3)


def short(text: str, longest: int = _SHOWN) -> str:
    """The beginning of a text, for a message or a name.

    Example:
        >>> short("a small red house beside a lake", 17)
        'a small red house...'
    """
    return text if len(text) <= longest else text[:longest].rstrip() + "..."


def one_line(text: str) -> str:
    """A text with its white space as single spaces, none at the ends."""
    return " ".join(text.split())


def _plain(line: str) -> Caption:
    return Caption(one_line(line), "")


def _tabbed(line: str) -> Caption:
    text, _, image = line.partition("\t")
    return Caption(one_line(text), image.strip())


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield utf8(line, path, f"line {number}")


def utf8(data: bytes, path: Path, place: str) -> str:
    """Bytes as text.

    Raises:
        ValueError: they are not UTF-8; it names file and place.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"prompts: {place} of {str(path)!r} is not UTF-8 ({error.reason} at its byte "
            f"{error.start}); save the file as UTF-8, or mend the line"
        ) from None


def _coco(path: Path) -> Iterator[Caption]:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"prompts: line {line} of {str(path)!r} is not UTF-8 ({error.reason} at byte "
            f"{error.start}); save the file as UTF-8, or mend the line"
        ) from None
    try:
        found = json.loads(text)
        files = {image["id"]: str(image["file_name"]) for image in found.get("images", ())}
        captions = list(_annotated(found["annotations"], files))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"prompts: {str(path)!r} is no captions file as COCO's, whose 'annotations' have a "
            f"'caption' and an 'image_id' each ({error!r})"
        ) from None
    return iter(captions)


def _annotated(annotations: Iterable[Any], files: dict[Any, str]) -> Iterator[Caption]:
    for annotation in annotations:
        yield Caption(one_line(annotation["caption"]), files.get(annotation["image_id"], ""))
