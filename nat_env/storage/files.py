"""Files that are written whole or not at all."""

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

try:
    import fcntl
except ImportError:  # Windows: what a killed process has left stays
    fcntl = None

_REMEDIES = {
    number: remedy
    for numbers, remedy in (
        ((errno.ENOSPC, errno.EDQUOT), "make room on its disk, then do the same again"),
        ((errno.EROFS, errno.EACCES, errno.EPERM), "choose a folder that can be written"),
        ((errno.ENAMETOOLONG,), "choose a shorter path"),
    )
    for number in numbers
}


class WriteError(OSError):
    """A file that could not be written: which, why, and what helps, in one sentence."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say which file or folder could not be written, and what helps.

    Raises:
        WriteError: the block raised an error of the disk.
    """
    try:
        yield
    except WriteError:
        raise
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        if number is None and (found := re.search(r"os error (\d+)", str(error))):
            number = int(found[1])  # safetensors gives it in its text alone
        reason = str(error) if number is None else os.strerror(number)
        remedy = _REMEDIES.get(number or 0)
        told = f"cannot write {str(path)!r} ({reason})" + (f"; {remedy}" if remedy else "")
        raise WriteError(told) from error


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, renamed onto it when the block succeeds.

    A reader never sees half a file, nor does who comes after a power cut; an error or Ctrl-C inside
    the block leaves `path` as it was. What a killed process has left beside `path` is removed.

    Raises:
        WriteError: the disk is full or read-only, say.
        ValueError: `path` starts with `~`.
    """
    refuse_home(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        handle, aside = _locked_aside(path)
        try:
            yield aside
            os.fsync(handle)
            aside.chmod(0o644)
            aside.replace(path)
            sync(path.parent)
        finally:
            os.close(handle)
            aside.unlink(missing_ok=True)


def _locked_aside(path: Path) -> tuple[int, Path]:
    """A new file, whose lock ends with this process; open."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        if fcntl is None:
            return handle, Path(name)
        fcntl.flock(handle, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):  # another took it for abandoned before it was locked
            if os.stat(name).st_ino == os.fstat(handle).st_ino:
                return handle, Path(name)
        os.close(handle)


def _remove_abandoned(path: Path) -> None:
    """Remove what killed processes have left of writing `path`: what nobody holds a lock on."""
    if fcntl is None:
        return
    of_path = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")  # see `tempfile.mkstemp`
    with os.scandir(path.parent) as entries:
        found = [entry.path for entry in entries if of_path.fullmatch(entry.name)]
    for name in found:
        with suppress(OSError):  # held, or removed meanwhile
            handle = os.open(name, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name)
            finally:
                os.close(handle)


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def refuse_home(path: Path) -> None:
    """Refuse a path that starts with `~`: a folder of that name is hardly meant.

    Raises:
        ValueError: it says what to write instead.

    Example:
        >>> refuse_home(Path("~/runs"))
        Traceback (most recent call last):
        ValueError: path: got '~/runs', whose ~ only a shell expands; give its expanduser()
    """
    with suppress(RuntimeError):  # no such user: a name like any other
        if path.expanduser() != path:
            raise ValueError(
                f"path: got {str(path)!r}, whose ~ only a shell expands; give its expanduser()"
            )


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically; what UTF-8 does not have is escaped."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")


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
    """Create `folder` if it is not there; where it is refused nothing is left of it.

    Raises:
        ValueError: nothing can be written there, or it starts with `~`.
    """
    _try_to_write(folder, keep=True)


def check_writable_folder(folder: Path) -> None:
    """See `require_writable_folder`; nothing is left of a folder that is not there.

    Raises:
        ValueError: as it does.
    """
    _try_to_write(folder, keep=False)


def _try_to_write(folder: Path, keep: bool) -> None:
    refuse_home(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()  # a full disk takes names, and no bytes
    except OSError as error:
        keep = False
        remedy = _REMEDIES.get(error.errno or 0, "choose another folder")
        raise ValueError(f"folder: cannot write in {str(folder)!r} ({error}); {remedy}") from error
    finally:
        for path in missing if not keep else ():
            with suppress(OSError):
                path.rmdir()


def check_apart(**folders: Path | None) -> None:
    """Check that of two folders neither lies in the other, whatever links and `..` they go by.

    Args:
        folders: by what the user calls them; None is none.

    Raises:
        ValueError: one lies in another, or is it.

    Example:
        >>> check_apart(out=Path("pictures/mine"), data=Path("pictures"), work=None)
        Traceback (most recent call last):
        ValueError: out: got 'pictures/mine', allowed is a folder apart from data 'pictures'
    """
    given = {name: folder for name, folder in folders.items() if folder is not None}
    for (name, one), (other, two) in combinations(given.items(), 2):
        a, b = one.resolve(), two.resolve()
        if a.is_relative_to(b) or b.is_relative_to(a):
            raise ValueError(
                f"{name}: got {str(one)!r}, allowed is a folder apart from {other} {str(two)!r}"
            )


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
