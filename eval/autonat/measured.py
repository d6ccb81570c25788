"""The lines that a folder of ablations has: results.json, and the files of shards beside it."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from eval.autonat.studies import STUDIES
from eval.evaluation.rows import Row, shard_path, shard_paths
from nat_env.storage.claims import check_same, edited
from nat_env.storage.files import read_json, write_json


class Measured:
    """Lines of one setting by study and seed, which are put there together.

    Of a study and seed that two files have, those that were measured later count.
    """

    def __init__(self, path: Path, setting: Mapping[str, Any], shard: str = "") -> None:
        """Take up what is there.

        Args:
            path: of results.json.
            setting: what distances depend on besides study and seed, as JSON has it.
            shard: as `eval.evaluation.rows.Results` has it.

        Raises:
            ValueError: a file is damaged, or its lines are of another setting.
        """
        self.path, self.setting = path, setting
        self._own = shard_path(path, shard)
        self.rows()

    def rows(self) -> list[Row]:
        """All, by study and seed."""
        return self._stored([*shard_paths(self.path), self.path])

    def put(self, study: str, seed: int, lines: Sequence[Row]) -> None:
        """Put the lines of a study and seed in the place of those that are there."""
        with ExitStack() as held:
            held.enter_context(edited(self._own))
            shards = shard_paths(self.path) if self._own == self.path else []
            for path in shards:
                held.enter_context(edited(path))
            others = [
                row
                for row in self._stored([*shards, self._own])
                if (row["study"], row["seed"]) != (study, seed)
            ]
            rows = _sorted([*others, *lines])
            write_json(self._own, {"setting": self.setting, "rows": rows})
            for path in shards:
                path.unlink(missing_ok=True)

    def _stored(self, paths: Sequence[Path]) -> list[Row]:
        latest: dict[tuple[str, int], list[Row]] = {}
        for path in paths:
            found: dict[tuple[str, int], list[Row]] = {}
            for row in self._of_file(path):
                found.setdefault((row["study"], row["seed"]), []).append(row)
            for key, lines in found.items():
                if key not in latest or _date(latest[key]) <= _date(lines):
                    latest[key] = lines
        return _sorted([row for lines in latest.values() for row in lines])

    def _of_file(self, path: Path) -> list[Row]:
        try:
            found, rows = read_json(path, "out", lambda v: (dict(v["setting"]), list(v["rows"])))
        except ValueError:
            if path.is_file():
                raise
            return []  # another process has just put it into results.json
        check_same(found, self.setting, f"out: {path}")
        return rows


def _date(lines: Sequence[Row]) -> str:
    return max(row.get("date", "") for row in lines)


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (list(STUDIES).index(row["study"]), row["seed"]))
