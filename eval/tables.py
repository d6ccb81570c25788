"""Evaluations as rows: results.json, which a stopped command goes on from, and Markdown tables."""

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from agents.computation import machine
from eval.evaluate import Evaluation
from eval.floors import FLOORS
from eval.references import Reference
from nat_env.files import write_json
from nat_env.schedules import COLUMNS

Row = dict[str, Any]

_ONE_OF_EACH = ("bundle", "policy", "num_steps", "seed", "num_samples", "judge")
"""results.json never holds two rows that agree in these: an average over it is not distorted by
what an older model or policy of the same name has left."""


class Results:
    """The rows of a results.json, written after every change.

    A row is matched by all that determines it, the bundle's and the policy's fingerprint included.
    """

    def __init__(self, path: Path) -> None:
        """Take up the file at `path`, or start one.

        Raises:
            ValueError: the file is damaged.
        """
        self.path = path
        self.rows: list[Row] = []
        self.floors: list[Row] = []
        if path.is_file():
            try:
                stored = json.loads(path.read_text())
                self.rows, self.floors = list(stored["rows"]), list(stored["floors"])
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f"out: {path} is damaged ({error!r}); move it away") from error

    def find(self, identity: Mapping[str, Any]) -> Row | None:
        """The row that agrees with all of `identity`."""
        return _find(self.rows, identity)

    def find_floors(self, identity: Mapping[str, Any]) -> list[Row]:
        """All floors that agree with `identity`."""
        return [row for row in self.floors if _agrees(row, identity)]

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows, in the place of those that they supersede, and write the file."""
        for row in rows:
            same = {key: row[key] for key in _ONE_OF_EACH}
            self.rows = [old for old in self.rows if not _agrees(old, same)] + [row]
        self._write()

    def add_floors(self, floors: Sequence[Row]) -> None:
        """Add floors in the place of those of the same bundle and judge, and write the file."""
        new = {(floor["bundle"], floor["judge"]) for floor in floors}
        kept = [old for old in self.floors if (old["bundle"], old["judge"]) not in new]
        self.floors = [*kept, *floors]
        self._write()

    def _write(self) -> None:
        write_json(self.path, {"rows": self.rows, "floors": self.floors})


def evaluation_rows(
    identity: Mapping[str, Any], evaluation: Evaluation, judges: Sequence[Reference]
) -> list[Row]:
    """One row per judge: what was evaluated, what came out, and when, where and how."""
    actions = {
        name: {
            "mean": evaluation.action_mean[:, column].tolist(),
            "std": evaluation.action_std[:, column].tolist(),
        }
        for column, name in enumerate(COLUMNS)
    }
    shared = {
        "class_accuracy": evaluation.class_accuracy,
        "seconds": evaluation.seconds,
        "images_per_second": evaluation.images_per_second,
        "judge_seconds": evaluation.judge_seconds,
        "actions": actions,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "command": shlex.join([*_program(), *sys.argv[1:]]),
    }
    return [
        dict(identity)
        | {
            "judge": judged.judge.name,
            "reference": judged.description,
            "frechet_distance": evaluation.frechet_distances[judged.judge.name],
        }
        | _metrics(evaluation, judged.judge.name)
        | shared
        for judged in judges
    ]


def _program() -> list[str]:
    """How this one was called: by its own name, or as a module."""
    specification = getattr(sys.modules["__main__"], "__spec__", None)
    if specification is None:
        return [Path(sys.argv[0]).name]
    return ["python", "-m", specification.name.removesuffix(".__main__")]


def _metrics(evaluation: Evaluation, judge: str) -> Row:
    row = asdict(evaluation.metrics[judge]) if judge in evaluation.metrics else {}
    if judge in evaluation.scores:
        score = evaluation.scores[judge]
        row |= {"score": score.mean, "score_std": score.std}
    return row


def markdown_table(rows: Sequence[Row], floors: Sequence[Row] = ()) -> str:
    """Mean and sample standard deviation over seeds of each policy, T, N and judge.

    `change` is relative to the first policy of the same T, N and judge.

    Args:
        rows: of one bundle.
        floors: of the same bundle, see `eval.floors`.

    Raises:
        ValueError: rows of several bundles, whose distances do not compare.

    Example:
        >>> about = {"bundle": "b", "num_steps": 4, "num_samples": 9, "judge": "b-judge"}
        >>> about |= {"class_accuracy": 0.5, "seconds": 3.0, "images_per_second": 3.0}
        >>> old = about | {"policy": "old", "seed": 0, "frechet_distance": 4.0}
        >>> new = [
        ...     about | {"policy": "new", "seed": s, "frechet_distance": 1.0 + s} for s in (0, 1)
        ... ]
        >>> print(markdown_table([old, *new]).splitlines()[2])
        | old | 4 | b-judge, N = 9 | 4.00 | | 1 | 50.0 % | 3.0 | 3 |
        >>> print(markdown_table([old, *new]).splitlines()[3])
        | new | 4 | b-judge, N = 9 | 1.50 ± 0.71 | -62 % | 2 | 50.0 % | 3.0 | 3 |
    """
    bundles = {row["bundle"] for row in rows}
    if len(bundles) > 1:
        raise ValueError(f"rows: allowed are those of one bundle, got {sorted(bundles)}")
    lines = [
        "| policy | T | judge | FD | change | seeds | class accuracy | seconds | images/s |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    first: dict[tuple[Any, ...], float] = {}
    for (setting, policy), group in _grouped(rows).items():
        judge, num_samples, num_steps = setting
        distances = [row["frechet_distance"] for row in group]
        mean = float(np.mean(distances))
        change = f"{round(100 * (mean / first[setting] - 1)):+d} %" if first.get(setting) else ""
        first.setdefault(setting, mean)
        cells = [
            policy,
            str(num_steps),
            f"{judge}, N = {num_samples}",
            _mean_and_spread(distances),
            change,
            str(len(group)),
            f"{100 * np.mean([row['class_accuracy'] for row in group]):.1f} %",
            f"{np.mean([row['seconds'] for row in group]):.1f}",
            f"{np.mean([row['images_per_second'] for row in group]):.0f}",
        ]
        lines.append(_line(cells))
    for row in floors:
        count = "" if row["num_samples"] is None else f", N = {row['num_samples']}"
        distance = f"{row['frechet_distance']:.2f}"
        judge = f"{row['judge']}{count}"
        lines.append(_line([FLOORS[row["floor"]], "", judge, distance, "", "", "", "", ""]))
    references = dict.fromkeys(
        f"{row['judge']}, {row['reference']}" for row in rows if "reference" in row
    )
    note = (
        f"Bundle {', '.join(bundles)}. FD: Frechet distance to real images under the judge named, "
        "lower is better; mean ± sample standard deviation over seeds. "
        "Change: against the first policy. Class accuracy: by the bundle's judge. "
        "Seconds: of generating N images, judging left out."
    )
    if references:
        note += f" References: {'; '.join(references)}."
    return "\n".join([*lines, "", note])


def metrics_table(rows: Sequence[Row], floors: Sequence[Row] = ()) -> str:
    """Mean and spread over seeds of what `eval.metrics` says of each policy, T, N and judge.

    A cell is empty where a judge, or one of the seeds, has no such number.

    Args:
        rows: of one bundle; those without metrics are left out.
        floors: of the same bundle, what real images themselves reach; likewise.

    Example:
        >>> row = {"policy": "a", "num_steps": 4, "judge": "b-judge", "num_samples": 9}
        >>> row |= {"precision": 0.5, "recall": 0.25, "density": 0.5, "coverage": 1.0}
        >>> row |= {"kernel_distance": 0.002, "kernel_distance_error": 0.001, "num_real": 9}
        >>> print(metrics_table([row]).splitlines()[2])
        | a | 4 | b-judge, N = 9 | 0.500 | 0.250 | 0.500 | 1.000 | 2.00 ± 1.00 | |
        >>> print(metrics_table([row | {"score": 7.5, "score_std": 0.2}]).splitlines()[2])
        | a | 4 | b-judge, N = 9 | 0.500 | 0.250 | 0.500 | 1.000 | 2.00 ± 1.00 | 7.50 |
    """
    lines = [
        "| policy | T | judge | precision | recall | density | coverage | KD x 1000 | score |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    measured = [row for row in rows if _is_measured(row)]
    for ((judge, num_samples, num_steps), policy), group in _grouped(measured).items():
        setting = f"{judge}, N = {num_samples}"
        lines.append(_line([policy, str(num_steps), setting, *_metric_cells(group)]))
    for row in filter(_is_measured, floors):
        setting = f"{row['judge']}, N = {row['num_samples']}"
        lines.append(_line([FLOORS[row["floor"]], "", setting, *_metric_cells([row])]))
    real = sorted({row["num_real"] for row in measured if "num_real" in row})
    note = (
        f"Against {', '.join(map(str, real)) or 'no'} real images; halves of these against each "
        "other. Precision and density: do the "
        "samples look real; recall and coverage: is everything real among them. KD: kernel "
        "distance (KID's formula under the judge named), lower is better. Score: the Inception "
        "Score's formula under the judge named, mean over 10 parts of the samples. ±: sample "
        "standard deviation over seeds; of one seed, KD's standard error."
    )
    return "\n".join([*lines, "", note])


def provenance(rows: Sequence[Row]) -> str:
    """When, where, with which seeds and by which commands rows were computed.

    Example:
        >>> machine = {"processor": "x86_64", "cpu_count": 2, "torch_threads": 1, "torch": "2.9"}
        >>> row = {"machine": machine, "date": "2026-11-25T02:00:00", "seed": 0, "command": "a b"}
        >>> print(provenance([row, row | {"seed": 1}]))
        Evaluated on 2026-11-25 with seeds 0, 1.
        Machine: x86_64, 2 processors, 1 torch threads, torch 2.9.
        Command: `a b`.
    """
    days = sorted({row["date"][:10] for row in rows})
    seeds = ", ".join(str(seed) for seed in sorted({row["seed"] for row in rows}))
    machines = dict.fromkeys(
        "{processor}, {cpu_count} processors, {torch_threads} torch threads, torch {torch}".format(
            **row["machine"]
        )
        for row in rows
    )
    commands = dict.fromkeys(f"`{row['command']}`" for row in rows)
    return "\n".join(
        [
            f"Evaluated on {' to '.join(dict.fromkeys([days[0], days[-1]]))} with seeds {seeds}.",
            f"Machine: {'; '.join(machines)}.",
            f"Command: {'; '.join(commands)}.",
        ]
    )


def _grouped(rows: Sequence[Row]) -> dict[tuple[tuple[Any, ...], str], list[Row]]:
    """Rows by setting (judge, N, T) and policy; what is compared stands together."""
    settings: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for row in rows:
        setting = (row["judge"], row["num_samples"], row["num_steps"])
        settings.setdefault(setting, {}).setdefault(row["policy"], []).append(row)
    return {(s, policy): group for s, by in settings.items() for policy, group in by.items()}


def _is_measured(row: Row) -> bool:
    return "precision" in row or "score" in row


def _metric_cells(group: Sequence[Row]) -> list[str]:
    """Precision, recall, density, coverage, KD, score of the seeds of one policy."""

    def cell(name: str, digits: int, scale: float = 1.0) -> str:
        if not all(name in row for row in group):
            return ""
        return _mean_and_spread([scale * row[name] for row in group], digits)

    kernel = cell("kernel_distance", 2, 1000)
    if kernel and len(group) == 1:
        kernel += f" ± {1000 * group[0]['kernel_distance_error']:.2f}"
    shares = [cell(name, 3) for name in ("precision", "recall", "density", "coverage")]
    return [*shares, kernel, cell("score", 2)]


def _mean_and_spread(values: Sequence[float], digits: int = 2) -> str:
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def _line(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def _find(rows: Sequence[Row], identity: Mapping[str, Any]) -> Row | None:
    return next((row for row in rows if _agrees(row, identity)), None)


def _agrees(row: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    return all(row.get(key) == value for key, value in identity.items())
