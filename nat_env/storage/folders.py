"""Folders that are written whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from nat_env.storage.claims import HOLDER, LOCK, locked
from nat_env.storage.files import explained, refuse_home, sync

ASIDE = ".aside."
"""Begins the name of the folder in which things are made, within the one they are for."""


def check_new(folder: Path, argument: str = "folder") -> None:
    """Check that a folder is not there, or empty but for what a killed process has left of writing.

    Raises:
        ValueError: it holds something, is a file, or starts with `~`.

    Example:
        >>> check_new(Path("/"), "out")
        Traceback (most recent call last):
        ValueError: out: got '/', allowed is a new or empty folder
    """
    refuse_home(folder)
    if folder.exists() and not (folder.is_dir() and all(map(_is_left, folder.iterdir()))):
        raise ValueError(f"{argument}: got {str(folder)!r}, allowed is a new or empty folder")


def _is_left(path: Path) -> bool:
    return path.name in (LOCK, HOLDER) or path.name.startswith(ASIDE)


@contextmanager
def written_folder(
    folder: Path, last: str, replaced: Sequence[str] = (), argument: str = "folder"
) -> Iterator[Path]:
    """Give a folder whose contents get into `folder` when the block succeeds.

    An error or Ctrl-C inside the block leaves `folder` as it was. What a killed process has left of
    writing is removed.

    Args:
        folder: made if it is not there; no other process may write there.
        last: what gets there last, and without which the rest counts for nothing.
        replaced: names in `folder` that the contents take the place of, whether they have them or
            not.
        argument: what the user calls the folder.

    Raises:
        ValueError: nothing can be written there, or another process writes there.
        WriteError: the disk is full, say.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with locked(folder, argument), explained(folder):
            broken_off = list(folder.glob(f"{ASIDE}*"))
            aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=folder))
            try:
                yield aside
                for path in aside.rglob("*"):
                    sync(path)
                (folder / last).unlink(missing_ok=True)
                for old in (folder / name for name in replaced):
                    if old.is_dir():
                        shutil.rmtree(old)
                    else:
                        old.unlink(missing_ok=True)
                for path in sorted(aside.iterdir(), key=lambda path: path.name == last):
                    path.rename(folder / path.name)
                sync(folder)
            finally:
                for path in (aside, *broken_off):
                    shutil.rmtree(path, ignore_errors=True)
    finally:
        for path in missing:
            with suppress(OSError):  # it holds what was written
                path.rmdir()
