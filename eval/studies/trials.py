"""Trials: trainings and searches from scratch, a folder for each, made once, then compared.

What the comparisons of decoding policies (`suite`, `learners`) are made of.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.commands import nat_eval
from eval.commands.arguments import Eval
from eval.commands.shards import WHOLE
from eval.comparison import tables
from eval.evaluation.cells import Cell
from eval.evaluation.rows import Row
from eval.evaluation.tables import markdown_line
from eval.studies.arguments import Comparison
from nat_env.commands.machine import machine
from nat_env.storage.claims import check_same, edited
from nat_env.storage.files import read_json, require_writable_folder, write_json, write_text

DONE = "done.json"

Line = tuple[str, int]
"""A policy and a seed: what is trained and evaluated apart from all others."""


@dataclass(frozen=True)
class Trial:
    """One method at one T and seed."""

    arguments: Comparison
    num_steps: int
    seed: int
    folder: Path


@dataclass(frozen=True)
class Method:
    """A way to a policy."""

    about: str
    prepare: Callable[[Trial], int]
    """Train or search in the trial's folder, or go on there; gives the images that it took."""
    policy: str
    """The policy's file in that folder, with `{num_steps}` for T. Of a training its last one: which
    was the best is known by evaluations only, that no budget counts and that hide a reward which
    leads astray."""
    check: Callable[[Trial], object] = lambda _: None
    """Raises a ValueError where `prepare` would refuse to begin."""


@dataclass(frozen=True)
class Compared:
    """What a folder has of the evaluation of a group."""

    table: str
    """Markdown."""
    rows: list[Row]
    lacks: str = ""
    """How many rows there are, and what the others are of; nothing where all are there."""


@dataclass(frozen=True)
class Group:
    """Methods at one T, by name: a trial for each of them and each seed, and their evaluation.

    Of a shard only its own lines are made: those of a study are dealt out one after the other, by
    T, policy and seed, so that lines that cost the same go to different shards.
    """

    arguments: Comparison
    methods: Mapping[str, Method]
    num_steps: int
    out: Path
    """Folder of the evaluation; the trial of a method and seed is in `name/seed` under it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of nat-eval, besides those that follow from the comparison."""
    first: int = 0
    """The number of its first line, among all of the study."""

    @property
    def lines(self) -> list[Line]:
        """All, the heuristic's first, which trains nothing."""
        names = ("heuristic", *self.methods)
        return [(name, seed) for name in names for seed in dict.fromkeys(self.arguments.seeds)]

    @property
    def own(self) -> set[Line]:
        """Those of the shard."""
        numbered = [None] * self.first + self.lines
        return {line for line in self.arguments.part.of(numbered) if line is not None}

    def check(self) -> None:
        """Refuse, before any training, what would be refused after it.

        Raises:
            ValueError: a folder that cannot be written, a budget of less than a training takes, a
                trial done with another budget, T or bundle, one whose policy is gone without being
                evaluated, or too few samples for a judge.
            ImportError: a judge's packages are not installed.
        """
        for name, method in self.methods.items():
            for seed in self.arguments.seeds:
                method.check(self._trial(name, seed))
        trials = [line for line in self.lines if line[0] in self.methods]
        done = {trial for trial in trials if self._is_done(*trial)} & self.own
        cells = nat_eval.cells(self.evaluation())
        require_writable_folder(self.out)  # only now has all been accepted
        for cell in cells:
            if _line(cell) in done:
                cell.check()

    def make(self) -> None:
        """Make the trials that are not done, and a shard's rows.

        Raises:
            ValueError: another process is making one of these trials.
        """
        own, part = self.own, self.arguments.part
        for seed in self.arguments.seeds:
            for name, method in self.methods.items():
                if (name, seed) in own and not self._is_done(name, seed):
                    self._make(name, seed, method)
        if part != WHOLE:
            for cell in nat_eval.cells(self.evaluation(), shard=part.name):
                if _line(cell) in own:
                    cell.rows()

    def compared(self) -> Compared:
        """What the folder has, by whichever shards.

        When all rows are there, or else may be computed by no shard, with floors and pictures.
        """
        evaluation = self.evaluation()
        cells = nat_eval.cells(evaluation)
        missing = [cell for cell in cells if cell.is_missing]
        if missing and self.arguments.part != WHOLE:
            rows = [row for cell in cells for row in cell.kept()]
            names = ", ".join(f"{name} {seed}" for name, seed in map(_line, missing))
            count = f"{len(rows)} of {len(cells) * len(cells[0].judges)}"
            lacks = f"{count} rows are there. Missing, policy and seed: {names}."
            return Compared(tables(rows, metrics=evaluation.metrics), rows, lacks)
        table, _ = nat_eval.run(evaluation)
        return Compared(table, nat_eval.kept_rows(evaluation))

    def _make(self, name: str, seed: int, method: Method) -> None:
        if self.arguments.progress:
            print(f"T = {self.num_steps}, seed {seed}: {name}", flush=True)
        folder = self.folder(name, seed)
        started = time.perf_counter()
        spent = method.prepare(self._trial(name, seed))
        seconds = time.perf_counter() - started
        done = {
            "images_spent": spent, "seconds_since_last_start": seconds, "machine": machine()
        }  # fmt: skip
        write_json(folder / DONE, self._identity | done)

    def _trial(self, name: str, seed: int) -> Trial:
        return Trial(self.arguments, self.num_steps, seed, self.folder(name, seed))

    def folder(self, name: str, seed: int | str) -> Path:
        """Of a trial."""
        return self.out / name / str(seed)

    def histories(self) -> dict[str, list[Any]]:
        """Evaluations in the course of the trainings that the folder has, by method and seed.

        Their images count from the beginning of the trial, what comes before a training included.
        """
        found = {
            name: [
                _from_the_beginning(history, done)
                for seed in self.arguments.seeds
                if (path := self.folder(name, seed) / nat_eval.RESULTS).is_file()
                if (done := self.folder(name, seed) / DONE).is_file()
                if (history := read_json(path, "out", lambda results: list(results["history"])))
            ]
            for name in self.methods
        }
        return {name: of_seeds for name, of_seeds in found.items() if of_seeds}

    def evaluation(self) -> Eval:
        """Of nat-eval: the heuristic and the policies of all trials, all seeds."""
        specs = [
            f"{name}={self.folder(name, '{seed}') / self._policy(method)}"
            for name, method in self.methods.items()
        ]
        arguments = self.arguments
        return Eval(
            policies=("heuristic", *specs),
            out=self.out,
            num_steps=self.num_steps,
            num_samples=arguments.num_samples,
            seeds=arguments.seeds,
            bundle=arguments.bundle,
            judges=arguments.judges,
            kept_rows=True,
            progress=arguments.progress,
            **arguments.computation(),
            **self.options,
        )

    def spent(self, name: str) -> set[int]:
        """Images that the method's trials took, of those that are done."""
        paths = [self.folder(name, seed) / DONE for seed in self.arguments.seeds]
        found = [read_json(path, "out", dict) for path in paths if path.is_file()]
        return {done["images_spent"] for done in found if "images_spent" in done}

    def _policy(self, method: Method) -> str:
        return method.policy.replace("{num_steps}", str(self.num_steps))

    @property
    def _identity(self) -> dict[str, Any]:
        arguments = self.arguments
        return {
            "images": arguments.trial_budget,
            "num_steps": self.num_steps,
            "bundle": arguments.bundle,
        }

    def _is_done(self, name: str, seed: int) -> bool:
        """Whether a trial is.

        Raises:
            ValueError: it is, with something else than is asked for.
        """
        path = self.folder(name, seed) / DONE
        if not path.is_file():
            return False
        check_same(read_json(path, "out", dict), self._identity, f"out: {str(path.parent)!r}")
        return True


def _from_the_beginning(history: list[Any], done: Path) -> list[Any]:
    """With the images before the training, of a trial that is done, in all its rows."""
    spent = read_json(done, "out", dict).get("images_spent", history[-1]["trajectories"])
    before = spent - history[-1]["trajectories"]
    return [row | {"trajectories": row["trajectories"] + before} for row in history]


def make_and_report(groups: Sequence[Group], path: Path, report: Callable[[], str]) -> str:
    """Make what is missing, once nothing of it would be refused, and write what is then there.

    Args:
        groups: of the study.
        path: of the report.
        report: gives it, in Markdown.

    Raises:
        ValueError: see `Group`.
        ImportError: likewise.
    """
    for group in groups:
        group.check()
    for group in groups:
        group.make()
    with edited(path):  # the last of several shards has the last word
        text = report()
        write_text(path, text + "\n")
    return text


def _line(cell: Cell) -> Line:
    return cell.contestant.name, cell.seed


def budgets(groups: Sequence[Group]) -> str:
    """What each method is, may spend and has spent, as a Markdown table.

    Args:
        groups: one for each T.
    """
    lines = [
        "| method | how | images that it may take | images that it took |",
        "| --- | --- | ---: | ---: |",
    ]
    allowed = str(groups[0].arguments.trial_budget)
    methods = {name: method for group in groups for name, method in group.methods.items()}
    for name, method in methods.items():
        spent = sorted(set().union(*(group.spent(name) for group in groups)))
        lines.append(markdown_line([name, method.about, allowed, ", ".join(map(str, spent))]))
    return "\n".join(lines)
