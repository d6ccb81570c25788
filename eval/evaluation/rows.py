"""Evaluations as rows: results.json, which a stopped command goes on from.

Several machines, of which each does a shard of a study, have a file of their own each:
results.2-of-3.json. Folders that are copied together then hold the rows of all.
"""

import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from eval.evaluation.fingerprint import version_of
from eval.evaluation.measure import Measurement
from eval.judges.clip import Agreement
from eval.judges.references import Reference
from nat_env.commands.machine import machine
from nat_env.storage.claims import edited
from nat_env.storage.files import read_json, write_json

Row = dict[str, Any]
"""What was evaluated of a policy with one seed under one judge, and what came out."""

_ONE_OF_EACH = (
    "bundle", "prompts", "policy", "num_steps", "seed", "num_samples", "conditions", "judge",
)  # fmt: skip
"""results.json never holds two rows that agree in these: an average over it is not distorted by
what an older model or policy of the same name has left."""

_ONE_FLOOR_OF_EACH = ("bundle", "prompts", "judge", "evaluation_samples")


_BEFORE_OF_FLOORS = {"decoder_dtype": "float32"}
_BEFORE = _BEFORE_OF_FLOORS | {"device": "cpu", "conditions": "balanced"}
"""Of rows that do not say: there was no other decoder and no device but the CPU, and conditions
were drawn in turn."""


class Results:
    """The rows of a results.json and of its shards' files, written after every change.

    A row is matched by all that determines it, the bundle's and the policy's fingerprint included.
    """

    def __init__(self, path: Path, shard: str = "") -> None:
        """Take up the file at `path` and those of shards beside it, or start one.

        Args:
            path: of results.json.
            shard: `2-of-3`, the one whose rows are added, to its own file. Without, they are added
                to results.json, which then takes the shards' rows, too.

        Raises:
            ValueError: a file is damaged.
        """
        self.path = path
        self._own = shard_path(path, shard)
        self.rows: list[Row] = []
        self.floors: list[Row] = []
        self._read()

    def find(self, identity: Mapping[str, Any]) -> Row | None:
        """The row that agrees with all of `identity`."""
        return find(self.rows, identity)

    def find_floors(self, identity: Mapping[str, Any]) -> list[Row]:
        """All floors that agree with `identity`."""
        return [row for row in self.floors if _agrees(row, identity)]

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows, in the place of those that they supersede, and write the file."""
        with self._edited() as stored:
            for row in rows:
                stored.put(row)

    def add_floors(self, floors: Sequence[Row]) -> None:
        """Add floors in the place of those that they supersede, and write the file."""
        with self._edited() as stored:
            stored.put_floors(floors)

    def gather(self) -> None:
        """Take the shards' rows into results.json, whose files end there; a shard does nothing."""
        if self._own == self.path and shard_paths(self.path):
            self.add([])

    @contextmanager
    def _edited(self) -> Iterator["_Stored"]:
        """What the own file holds, with all that the block adds."""
        with ExitStack() as held:
            held.enter_context(edited(self._own))
            # A shard that writes meanwhile waits, and then begins a new file: none of its rows is
            # in neither.
            shards = shard_paths(self.path) if self._own == self.path else []
            for path in shards:
                held.enter_context(edited(path))
            stored = _merged([*shards, self._own])
            yield stored
            write_json(self._own, {"rows": stored.rows, "floors": stored.floors})
            for path in shards:
                path.unlink(missing_ok=True)
        self._read()

    def _read(self) -> None:
        """Take up what the files hold: other processes may have added to them for hours."""
        # Shards' files first: a file that ends meanwhile has its rows in results.json.
        stored = _merged([*shard_paths(self.path), self.path])
        self.rows, self.floors = stored.rows, stored.floors


@dataclass
class _Stored:
    """Rows and floors of a file, or of several."""

    rows: list[Row]
    floors: list[Row]

    def put(self, row: Row) -> None:
        """Add a row in the place of those that it supersedes."""
        same = {key: row.get(key) for key in _ONE_OF_EACH}  # classes: no prompts
        self.rows = [old for old in self.rows if not _agrees(old, same)] + [row]

    def put_floors(self, floors: Sequence[Row]) -> None:
        """Add floors in the place of those that they supersede."""
        new = [{key: floor.get(key) for key in _ONE_FLOOR_OF_EACH} for floor in floors]
        kept = [old for old in self.floors if not any(_agrees(old, same) for same in new)]
        self.floors = [*kept, *floors]


def _merged(paths: Sequence[Path]) -> _Stored:
    """What files hold together, of which the last is results.json or the only one.

    Of two rows of which one supersedes the other the later one counts.
    """
    *others, stored = [_stored(path) for path in paths]
    for other in others:
        for row in other.rows:
            same = {key: row.get(key) for key in _ONE_OF_EACH}
            found = find(stored.rows, same)
            if found is None or found.get("date", "") <= row.get("date", ""):
                stored.put(row)
        held = [{key: floor.get(key) for key in _ONE_FLOOR_OF_EACH} for floor in stored.floors]
        stored.floors += [f for f in other.floors if not any(_agrees(f, same) for same in held)]
    return stored


def _stored(path: Path) -> _Stored:
    """What a file holds; nothing where there is none."""
    try:
        return read_json(
            path,
            "out",
            lambda stored: _Stored(
                [_BEFORE | row for row in stored["rows"]],
                [_BEFORE_OF_FLOORS | floor for floor in stored["floors"]],
            ),
        )
    except ValueError:
        if path.is_file():
            raise
        return _Stored([], [])


def shard_path(path: Path, shard: str) -> Path:
    """The file of a shard beside a results.json; without a shard that file itself.

    Example:
        >>> shard_path(Path("results.json"), "2-of-3").name
        'results.2-of-3.json'
    """
    return path.with_name(f"{path.stem}.{shard}{path.suffix}") if shard else path


def shard_paths(path: Path) -> list[Path]:
    """The files of shards that there are beside a results.json."""
    return sorted(path.parent.glob(f"{path.stem}.*-of-*{path.suffix}"))


def evaluation_rows(
    identity: Mapping[str, Any],
    evaluation: Measurement,
    judges: Sequence[Reference],
    agreements: Sequence[Agreement] = (),
) -> list[Row]:
    """One row per judge or agreement: what was evaluated, what came out, when, where and how."""
    taken = evaluation.quantities
    spreads = {"mean": taken.mean, "std": taken.std}
    if np.isfinite(taken.std_within).all():  # of one sample a prompt there is none
        spreads["std_within_classes"] = taken.std_within
    actions = {
        name: {what: values[:, column].tolist() for what, values in spreads.items()}
        for column, name in enumerate(taken.names)
    }
    aligned = {} if evaluation.alignment is None else {"alignment": evaluation.alignment}
    shared = {
        "passes": evaluation.passes,
        "class_accuracy": evaluation.class_accuracy,
        **aligned,
        "seconds": evaluation.seconds,
        "images_per_second": evaluation.images_per_second,
        "judge_seconds": evaluation.judge_seconds,
        "actions": actions,
    } | stamp()
    found = [
        dict(identity)
        | {
            "judge": judged.judge.name,
            "reference": judged.description,
            "frechet_distance": evaluation.frechet_distances[judged.judge.name],
        }
        | version_of(judged.judge)
        | _metrics(evaluation, judged.judge.name)
        | shared
        for judged in judges
    ]
    found += [
        dict(identity)
        | {
            "judge": agreement.name,
            "reference": agreement.description,
            "clip_score": evaluation.agreements[agreement.name],
        }
        | shared
        for agreement in agreements
    ]
    return found


def stamp() -> Row:
    """When, where and by which command a row is being computed; `tables.provenance` tells it."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "commit": _commit(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _commit() -> str | None:
    """Of the code that runs, marked where it was changed since; None outside of a clone."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _metrics(evaluation: Measurement, judge: str) -> Row:
    row = asdict(evaluation.metrics[judge]) if judge in evaluation.metrics else {}
    if judge in evaluation.scores:
        score = evaluation.scores[judge]
        row |= {"score": score.mean, "score_std": score.std}
    return row


def has_distance(row: Row) -> bool:
    """Whether it is of a judge that compares images with images, and not with prompts."""
    return "frechet_distance" in row


def find(rows: Sequence[Row], identity: Mapping[str, Any]) -> Row | None:
    """The first row that agrees with all of `identity`."""
    return next((row for row in rows if _agrees(row, identity)), None)


def _agrees(row: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    return all(row.get(key) == value for key, value in identity.items())
