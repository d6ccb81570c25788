"""The scores of a search in its folder, a JSON line each: what it goes on from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nat_env.storage.files import explained, read_json, write_text

Trial = dict[str, Any]
"""Images so far, value, whether a candidate, and the table."""

TRIALS = "trials.jsonl"

WHOLE_TRIALS = "trials.json"
"""One JSON list, in older folders: read where there is no `TRIALS`."""


def read_trials(folder: Path) -> list[Trial]:
    """The trials of a folder, none where there are no files.

    A last line without its end is of a process that was killed while it wrote, and is left out.

    Raises:
        ValueError: a file is damaged.
    """
    path = folder / TRIALS
    if path.is_file():
        return [_trial(path, line) for line in _whole_lines(path)]
    path = folder / WHOLE_TRIALS
    if not path.is_file():
        return []
    return read_json(path, "out", lambda rows: [_checked(row) for row in rows])


def write_trials(folder: Path, trials: Sequence[Trial]) -> None:
    """Write the file anew: without a line that was cut, and line by line."""
    write_text(folder / TRIALS, "".join(map(_line, trials)))


def add_trial(folder: Path, trial: Trial) -> None:
    """Add one to the end of the file, whose lines are whole.

    Raises:
        WriteError: the disk is full or read-only.
    """
    path = folder / TRIALS
    with explained(path), path.open("a", encoding="utf-8") as file:
        file.write(_line(trial))


def _line(trial: Trial) -> str:
    return json.dumps(trial) + "\n"


def _whole_lines(path: Path) -> list[bytes]:
    *whole, _ = path.read_bytes().split(b"\n")
    return whole


def _trial(path: Path, line: bytes) -> Trial:
    try:
        return _checked(json.loads(line))
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"out: {path} is damaged ({error!r}); move it away") from error


def _checked(row: Any) -> Trial:
    return row | {"value": float(row["value"])}
