"""AutoNAT's Tables 2 and 6 and its comparison of starts (A.2), on proxies of a shipped bundle."""

import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from eval.autonat.alternation import computed_by
from eval.autonat.arguments import Ablations
from eval.autonat.laboratory import Laboratory
from eval.autonat.measured import Measured
from eval.autonat.studies import CLAIMS, STUDIES
from eval.evaluation.floors import FLOORS, floors
from eval.evaluation.rows import Row, find, stamp
from eval.evaluation.tables import markdown_line, mean_and_spread, provenance
from eval.evaluation.verdicts import verdict
from eval.judges.embedding import shared_cache
from nat_env.models.uvit import UViT
from nat_env.storage.claims import edited, locked
from nat_env.storage.files import write_text

RESULTS = "results.json"
REPORT = "ablations.md"


def report(arguments: Ablations) -> str:
    """Measure what is missing.

    Returns:
        The tables in Markdown, also written to ablations.md; their lines are in results.json.

    Raises:
        ValueError: an argument that is not allowed, or a folder that cannot be written, is in use
            or holds other ablations.
        ImportError: scikit-learn, which has the digits, is not installed.
    """
    laboratories = [Laboratory(arguments, seed) for seed in dict.fromkeys(arguments.seeds)]
    bundle = laboratories[0].bundle
    setting = arguments.as_json() | computed_by(bundle)
    measured = Measured(arguments.out / RESULTS, setting, arguments.part.name)
    own = arguments.part.of(laboratories)
    with ExitStack() as held:
        for lab in own:
            held.enter_context(locked(lab.folder))
        for name in arguments.studies or STUDIES:
            for lab in own:
                print(f"{name}, seed {lab.seed}", flush=True)
                about = {"study": name, "seed": lab.seed}
                lines = [about | asdict(line) for line in STUDIES[name](lab)]
                # What has come out of the folder again keeps its date.
                rows = measured.rows()
                new = [find(rows, line) or line | stamp() for line in lines]
                measured.put(name, lab.seed, new)
    path = arguments.out / REPORT
    with edited(path):  # the last of several shards has the last word
        text = _report(arguments, laboratories[0], setting, measured.rows())
        write_text(path, text + "\n")
    return text


def _report(
    arguments: Ablations, lab: Laboratory, setting: dict[str, Any], rows: Sequence[Row]
) -> str:
    listed = "\n".join(f"- {key}: {value}" for key, value in (setting | _sizes(lab)).items())
    note = (
        f"Frechet distances, N = {arguments.num_samples}, lower is better; mean ± sample "
        "standard deviation over seeds."
    )
    names = dict.fromkeys(row["study"] for row in rows)
    seeds = dict.fromkeys(arguments.seeds)
    asked = [(name, seed) for name in arguments.studies or STUDIES for seed in seeds]
    there = {(row["study"], row["seed"]) for row in rows}
    missing = [f"{name} {seed}" for name, seed in asked if (name, seed) not in there]
    lacks = (
        f"{len(asked) - len(missing)} of {len(asked)} tables are there. Missing, study and seed: "
        f"{', '.join(missing)}."
    )
    sections = [section(name, [row for row in rows if row["study"] == name]) for name in names]
    title = f"# AutoNAT's ablations on `{arguments.bundle}`"
    parts = [title, listed, note, lacks if missing else "", _floors(lab), *sections]
    return "\n\n".join(filter(None, [*parts, provenance(rows) if rows else ""]))


def section(study: str, rows: Sequence[Row]) -> str:
    """What a study is about, its table, and whether the paper's orderings hold.

    Args:
        study: its name.
        rows: of that study.
    """
    claims = []
    for name, paper, order in CLAIMS:
        if name == study:
            found = (
                f"under {judge}, {verdict(_values(rows, judge), order)}" for judge in _judges(rows)
            )
            claims.append(f"- Paper: {paper}. Here: {'; '.join(found)}.")
    about = inspect.getdoc(STUDIES[study]) or study
    return "\n\n".join([f"## {about}", table(rows), "\n".join(claims)])


def table(rows: Sequence[Row]) -> str:
    """Mean and sample standard deviation over seeds, line by line, and the range of the costs.

    Example:
        >>> row = {"label": "a", "frechet_distances": {"j": 1.0}, "seed": 0, "cost": {"images": 5}}
        >>> row |= {"note": "x"}
        >>> other = {"frechet_distances": {"j": 2.0}, "seed": 1, "cost": {"images": 6}}
        >>> print(table([row, row | other]))
        | | j | seeds | cost | |
        | --- | ---: | --- | --- | --- |
        | a | 1.50 ± 0.71 | 0, 1 | 5 to 6 images | x |
    """
    judges = _judges(rows)
    lines = [
        markdown_line(["", *judges, "seeds", "cost", ""]),
        markdown_line(["---", *["---:"] * len(judges), "---", "---", "---"]),
    ]
    for label in dict.fromkeys(row["label"] for row in rows):
        found = [row for row in rows if row["label"] == label]
        distances = [
            mean_and_spread([row["frechet_distances"][judge] for row in found]) for judge in judges
        ]
        seeds = ", ".join(str(row["seed"]) for row in found)
        notes = ", ".join(dict.fromkeys(row["note"] for row in found if row["note"]))
        lines.append(markdown_line([label, *distances, seeds, _cost(found), notes]))
    return "\n".join(lines)


def _judges(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(judge for row in rows for judge in row["frechet_distances"]))


def _values(rows: Sequence[Row], judge: str) -> dict[str, dict[int, float]]:
    """Distances by label and seed."""
    values: dict[str, dict[int, float]] = {}
    for row in rows:
        values.setdefault(row["label"], {})[row["seed"]] = row["frechet_distances"][judge]
    return values


def _floors(lab: Laboratory) -> str:
    """What no schedule can pass."""
    setting = lab.setting
    found = floors(lab.bundle, lab.judges, setting.num_samples, cache=shared_cache())
    lines = ["| floor | judge | images | FD |", "| --- | --- | ---: | ---: |"]
    for row in found:
        if row["floor"] not in FLOORS:  # measured with another N when the bundle was made
            continue
        count = str(row["num_samples"] or "")
        distance = f"{row['frechet_distance']:.3g}"
        lines.append(markdown_line([FLOORS[row["floor"]], row["judge"], count, distance]))
    return "\n".join(lines)


def _sizes(lab: Laboratory) -> dict[str, str]:
    """Of the models that are trained."""
    found = {}
    for name, proxies in (("small model", lab.proxies), ("larger model", lab.large_proxies)):
        shape = proxies.architecture
        count = sum(parameter.numel() for parameter in UViT(shape).parameters())
        found[name] = f"{shape.hidden_size} wide, {shape.depth} blocks, {count:,} parameters"
    return found


def _cost(rows: Sequence[Row]) -> str:
    parts = []
    for key in dict.fromkeys(key for row in rows for key in row["cost"]):
        counts = sorted({row["cost"].get(key, 0) for row in rows})
        parts.append(" to ".join(f"{count:,}" for count in counts[:: max(1, len(counts) - 1)]))
        parts[-1] += f" {key}"
    return ", ".join(parts)


def command(arguments: Ablations) -> None:
    """Measure, and show the report."""
    text = report(arguments)
    print("", text, "", arguments.out / REPORT, sep="\n")
