"""A folder belongs to one configuration, and one process at a time writes in it."""

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nat_env.storage.files import (
    explained,
    read_json,
    refuse_home,
    require_writable_folder,
    write_json,
)

LOCK = ".lock"
"""The operating system's lock on it ends with the process that holds it, however that ends."""

HOLDER = ".lock.json"
"""Who holds the lock, for other processes' messages."""

CONFIGURATIONS = (
    "alternation_config.json",
    "bundle.json",
    "config.json",  # of a run, and of the parts of a bundle
    "proxy.json",
    "search.json",
    "study.log",
    "tokens.json",
)
"""Whose folder it is, whichever of these is there."""

_SHOWN = 5


@contextmanager
def locked(folder: Path, argument: str = "out") -> Iterator[None]:
    """Be the one process that writes in `folder`, which is made if it is not there.

    Args:
        folder: no other block, in this process or another, may hold it.
        argument: what the user calls the folder.

    Raises:
        ValueError: nothing can be written there, or another holds it.
    """
    require_writable_folder(folder)
    with ExitStack() as held:
        with explained(folder / LOCK):
            try:
                held.enter_context(_lock(folder / LOCK, timeout=0))
            except Timeout:
                raise ValueError(
                    f"{argument}: {str(folder)!r} is in use by {_holder(folder)}; wait until it "
                    "has ended, or choose another folder"
                ) from None
        write_json(folder / HOLDER, _this_process())
        held.callback((folder / HOLDER).unlink, missing_ok=True)
        yield


@contextmanager
def claimed(
    folder: Path,
    name: str,
    identity: Mapping[str, Any],
    argument: str = "out",
    foreign: Sequence[str] = (),
) -> Iterator[None]:
    """Be the one process that writes in a folder of one configuration.

    The configuration is written there by the first and compared by later ones. Where the folder is
    refused nothing is written.

    Args:
        folder: made if it is not there.
        name: of the file that holds the configuration.
        identity: values that JSON can hold. A file without the first key is of another kind; what
            it has beside these does not count.
        argument: what the user calls the folder.
        foreign: names that no folder has before its configuration is written.

    Raises:
        ValueError: nothing can be written there, another process holds it, it holds something
            else or another configuration, or the file is damaged.
    """
    _check(folder, name, identity, argument, foreign)
    with locked(folder, argument):
        _check(folder, name, identity, argument, foreign)  # another may have come first
        if not (folder / name).is_file():
            write_json(folder / name, identity)
        yield


@contextmanager
def edited(path: Path) -> Iterator[None]:
    """Keep other processes' `edited` blocks waiting while this one reads a file and writes it."""
    refuse_home(path)
    with ExitStack() as held:
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(_lock(path.with_name(f".{path.name}.lock"), timeout=-1))
        yield


def check_unclaimed(folder: Path, argument: str = "out", foreign: Sequence[str] = ()) -> None:
    """Check that no configuration has the folder.

    Raises:
        ValueError: one has, or there is one of `foreign`.
    """
    for name in (*CONFIGURATIONS, *foreign):
        if (folder / name).exists():
            raise ValueError(
                f"{argument}: {str(folder)!r} has a {name} of something else; choose another folder"
            )


def check_same(stored: Mapping[str, Any], asked: Mapping[str, Any], subject: str) -> None:
    """Compare a stored configuration with the one that is asked for.

    Args:
        stored: JSON values, as read.
        asked: values that JSON can hold.
        subject: the beginning of the message: which argument, and which file or folder.

    Raises:
        ValueError: values differ, which are named; what is not there counts as None.

    Example:
        >>> check_same({"a": {"b": 1}}, {"a": {"b": 2}}, "out: 'x'")
        Traceback (most recent call last):
        ValueError: out: 'x' was made with a.b = 1, now 2 is asked for; choose another folder
    """
    found = list(_differences(stored, json.loads(json.dumps(asked))))
    if not found:
        return
    shown = [f"{name} = {_shown(old)}, now {_shown(new)}" for name, old, new in found[:_SHOWN]]
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise ValueError(
        f"{subject} was made with {', '.join(shown)} is asked for{more}; choose another folder"
    )


@contextmanager
def _lock(path: Path, timeout: float) -> Iterator[None]:
    # Not by thread: what one thread has begun may be ended by another.
    with FileLock(path, timeout=timeout, thread_local=False):
        try:
            yield
        finally:  # who opened it meanwhile finds it gone, and tries again
            with suppress(OSError):
                path.unlink()


def _check(
    folder: Path, name: str, identity: Mapping[str, Any], argument: str, foreign: Sequence[str]
) -> None:
    path = folder / name
    if path.is_file():
        stored = read_json(path, argument, dict)
        if next(iter(identity)) not in stored:
            raise ValueError(f"{argument}: {path} is of something else; choose another folder")
        check_same(stored, identity, f"{argument}: {str(folder)!r}")
    else:
        check_unclaimed(folder, argument, foreign)


def _differences(stored: Any, asked: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, stored and asked value of what differs."""
    if isinstance(stored, dict) and isinstance(asked, Mapping):
        for key, value in asked.items():
            yield from _differences(stored.get(key), value, f"{name}.{key}" if name else key)
    elif stored != asked:
        yield name, stored, asked


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _this_process() -> dict[str, Any]:
    since = datetime.now().astimezone().isoformat(" ", timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _holder(folder: Path) -> str:
    try:
        found = read_json(folder / HOLDER, "lock")
        return f"process {found['pid']} on {found['host']}, since {found['since']}"
    except (ValueError, KeyError, TypeError):  # between its lock and its name, or being ended
        return "another process"
