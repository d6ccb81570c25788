"""Command nat-study paper: the papers' tables, row by row."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from agents.learners.config import PRESETS
from agents.search.arguments import Arguments
from eval.commands import nat_eval
from eval.commands.arguments import Eval
from eval.evaluation.rows import Row, has_distance
from eval.evaluation.tables import markdown_line
from eval.papers.arguments import Paper
from eval.papers.rows import DATASETS, PaperRow
from eval.papers.tables import TABLES
from nat_env.schedules import NAMED_SCHEDULES
from nat_env.storage.claims import edited
from nat_env.storage.files import require_writable_folder, write_text

DINO = "facebook/dino-vits16"
"""The trunk of the papers' discriminator."""

SCORES = Arguments.budget // Arguments.num_samples
"""Of schedules, in a search: as many as by default."""


@dataclass(frozen=True)
class Entry:
    """A row with the files that it takes here."""

    row: PaperRow
    arguments: Paper
    out: Path
    """Folder of its evaluation."""

    @property
    def bundle(self) -> Path:
        """Folder of the models."""
        return self.arguments.weights / "bundles" / self.row.bundle

    @property
    def policy(self) -> str:
        """As nat-eval takes it."""
        name = self.row.policy
        return name if name in NAMED_SCHEDULES else str(self.arguments.weights / "policies" / name)

    @property
    def missing(self) -> list[Path]:
        """Files and folders that are not there."""
        weights = self.arguments.weights
        needed = [self.bundle]
        if self.policy != self.row.policy:
            needed.append(Path(self.policy))
        if self.arguments.judge == "inception":
            needed += [weights / "inception.pth", weights / "statistics" / self._statistics]
        return [path for path in needed if not path.exists()]

    @property
    def evaluation(self) -> Eval:
        """What nat-eval is asked for."""
        weights, row = self.arguments.weights, self.row
        standard = self.arguments.judge == "inception"
        clip = weights / "clip"
        return Eval(
            policies=(self.policy,),
            out=self.out,
            num_steps=row.num_steps,
            num_samples=self.arguments.num_samples or row.num_samples,
            seeds=(self.arguments.seed,),
            bundle=str(self.bundle),
            judges=(),
            inception=weights / "inception.pth" if standard else None,
            inception_statistics=weights / "statistics" / self._statistics if standard else None,
            clip=clip if clip.is_dir() and not row.has_classes else None,
            conditions="uniform" if row.has_classes else "balanced",
            pictures=False,
            progress=self.arguments.progress,
            **self.arguments.computation(),
        )

    @property
    def command(self) -> str:
        """The same as a command line."""
        return shlex.join(["nat-eval", *_words(self.evaluation)])

    @property
    def making(self) -> str:
        """The command that makes the policy; nothing for a named schedule."""
        if self.policy == self.row.policy:
            return ""
        shared = ["--bundle", str(self.bundle), "--num-steps", str(self.row.num_steps)]
        if self.row.policy.startswith("adanat"):
            real = self.arguments.weights / "data" / self.row.dataset / "train"
            preset = PRESETS["paper"][1]
            # A gradient step is on a whole round; the bundle has neither judge nor trunk.
            transitions = preset.trajectories_per_round * self.row.num_steps
            words = ["nat-train", "paper", *shared, "--real-folder", str(real), "--eval-every", "0"]
            words += ["--accumulate", str(transitions // preset.batch_size)]
            words += ["--discriminator.trunk", "transformer", "--discriminator.trunk-path", DINO]
            return f"{shlex.join([*words, '--out', self.policy])} {self.row.how}".rstrip()
        folder = str(Path(self.policy).with_suffix(""))
        count = self.row.num_samples
        words = ["nat-search", "autonat", *shared, "--num-samples", str(count)]
        words += ["--budget", str(count * SCORES)]
        made = f"{shlex.join([*words, '--out', folder])} {self.row.how}".rstrip()
        return f"{made}; its schedule.json is {Path(self.policy).name}"

    @property
    def _statistics(self) -> str:
        return f"{self.row.dataset}.npz"


def _words(evaluation: Eval) -> list[str]:
    """Options that differ from their defaults, as a command line has them."""
    words: list[str] = []
    for field in fields(evaluation):
        value: Any = getattr(evaluation, field.name)
        option = field.name.replace("_", "-")
        if value == field.default or field.name == "progress":
            continue
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            parts = value if isinstance(value, tuple) else (value,)
            words += [f"--{option}", *map(str, parts)]
    return words


def entries(arguments: Paper) -> dict[str, list[Entry]]:
    """The rows of the tables asked for."""
    found = {}
    for name in dict.fromkeys(arguments.table):
        rows = TABLES[name].rows
        folders = [f"{n}_{_slug(row)}" for n, row in enumerate(rows, 1)]
        found[name] = [
            Entry(row, arguments, arguments.out / name / folder)
            for row, folder in zip(rows, folders, strict=True)
        ]
    return found


def study(arguments: Paper) -> str:
    """Evaluate what is asked for and can be.

    Returns:
        The report in Markdown, also written to paper.md.

    Raises:
        ValueError: a folder that cannot be written, or a bundle, policy or file that is there but
            does not fit.
    """
    require_writable_folder(arguments.out)
    tables = entries(arguments)
    every = [entry for rows in tables.values() for entry in rows]
    ready = [entry for entry in arguments.part.of(every) if not entry.missing]
    if arguments.run:
        for entry in ready:  # all are refused before the first is sampled
            nat_eval.cells(entry.evaluation)
        for entry in ready:
            nat_eval.run(entry.evaluation)
    path = arguments.out / "paper.md"
    with edited(path):  # the last of several shards has the last word
        count = sum(_measured(entry) is not None for entry in every)
        sections = [_section(name, rows) for name, rows in tables.items()]
        report = "\n\n".join([f"{count} of {len(every)} rows are measured.", *sections])
        write_text(path, report + "\n")
    return report


def _section(name: str, rows: Sequence[Entry]) -> str:
    lines = [
        "| row | data | T | N | FID, paper | FID here | IS, paper | IS here |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    commands = []
    for entry in rows:
        row, evaluation = entry.row, entry.evaluation
        measured = _measured(entry)
        lines.append(
            markdown_line(
                [
                    row.label,
                    DATASETS[row.dataset],
                    str(row.num_steps),
                    str(evaluation.num_samples),
                    f"{row.fid:.2f}",
                    _cell(measured, "frechet_distance"),
                    "" if row.inception_score is None else f"{row.inception_score:.1f}",
                    _cell(measured, "score"),
                ]
            )
        )
        made = f"    # the policy: {entry.making}\n" if entry.making else ""
        lacks = ", ".join(map(str, entry.missing))
        state = f"    # missing: {lacks}\n" if lacks else ""
        commands.append(f"{row.label}, T = {row.num_steps}:\n\n{made}{state}    {entry.command}")
    note = (
        "Here: InceptionV3 with the files' statistics."
        if rows[0].arguments.judge == "inception"
        else "Here: under the bundle's own judge, which is no FID and no IS."
    )
    if any(e.evaluation.num_samples != e.row.num_samples for e in rows):
        note += " N is not the paper's: the numbers do not compare."
    return "\n\n".join([f"## {TABLES[name].title}", "\n".join(lines), note, *commands])


def _measured(entry: Entry) -> Row | None:
    """The row of the evaluation, where there is one."""
    if entry.missing or not (entry.out / nat_eval.RESULTS).is_file():
        return None
    found = [row for row in nat_eval.kept_rows(entry.evaluation) if has_distance(row)]
    return found[-1] if found else None


def _cell(row: Row | None, name: str) -> str:
    return "" if row is None or name not in row else f"{row[name]:.2f}"


def _slug(row: PaperRow) -> str:
    return re.sub(r"\W+", "-", f"{row.label} T{row.num_steps}").strip("-").lower()


def command(arguments: Paper) -> None:
    """Show the report."""
    report = study(arguments)
    print("", report, arguments.out / "paper.md", sep="\n")
