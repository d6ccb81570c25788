"""Files that are written whole or not at all."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, renamed onto it when the block succeeds.

    A reader never sees half a file; an error or Ctrl-C inside the block leaves `path` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path, argument: str, form: Callable[[Any], Any] = lambda value: value) -> Any:
    """What a JSON file holds.

    Args:
        path: of the file.
        argument: what the user calls it or its folder, for the message.
        form: gives what is wanted of the value; a value it fails on is a damaged one.

    Raises:
        ValueError: the file is missing, cannot be read or is damaged.
    """
    try:
        return form(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ValueError(f"{argument}: {path} is not there") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{argument}: {path} is damaged ({error!r}); move it away") from error


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_writable_folder(folder: Path) -> None:
    """Create `folder` if it is not there.

    Raises:
        ValueError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"folder: cannot write in {str(folder)!r} ({error})") from error


def reserve(file: int, size: int, folder: Path) -> None:
    """Take room on the disk for an open file: a memory map of a sparse one ends in a bus error.

    Args:
        file: its descriptor.
        size: bytes that it shall have.
        folder: where it is, for the message.

    Raises:
        ValueError: there is no room.
    """
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
        else:
            os.truncate(file, size)
    except OSError as error:
        raise ValueError(
            f"folder: no room in {str(folder)!r} for {size:,} bytes ({error.strerror}); free some, "
            "or choose a folder of another disk"
        ) from None
