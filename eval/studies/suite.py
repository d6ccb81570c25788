"""The papers' comparison of decoding policies, from scratch, at equal budgets of generated images.

AdaNAT's Table 5 and appendices B and D and Figure 4, AutoNAT's generation strategy: every method on
one bundle, with its own folder for each T and seed.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from eval.evaluation.learning_speed import learning_speed_table
from eval.evaluation.rows import Row
from eval.evaluation.tables import provenance
from eval.evaluation.verdicts import against, by_policy, verdict
from eval.studies.arguments import Suite
from eval.studies.methods import METHODS, check_budget
from eval.studies.trials import Group, budgets, make_and_report

CLAIMS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("AdaNAT Table 5", "frechet_distance", ("adaptive", "not-adaptive", "heuristic")),
    ("AdaNAT appendix B", "frechet_distance", ("not-adaptive-frechet", "adaptive-frechet")),
    ("AdaNAT appendix D", "frechet_distance", ("not-adaptive-frechet", "autonat", "adaptive")),
    ("AdaNAT Figure 4", "recall", ("adaptive-pretrained", "adaptive")),
    ("decisions by position", "frechet_distance", ("adaptive-map", "adaptive")),
    ("decisions by position", "frechet_distance", ("adaptive-map", "not-adaptive-map")),
    (
        "beyond a hand's tuning",
        "frechet_distance",
        ("adaptive-from-grid", "not-adaptive-from-grid", "grid"),
    ),
    ("AutoNAT Table 6a", "frechet_distance", ("autonat", "heuristic")),
    ("trunk that is kin to the judge", "frechet_distance", ("adaptive", "adaptive-scratch")),
    ("no network of a judge's kin", "frechet_distance", ("adaptive-scratch", "heuristic")),
)
"""Orderings that the papers report, and some that this project asks for: of what, and from the
lowest value to the highest."""

SHARED = (
    "heuristic",
    *("grid", "halton", "remdm"),
    *("autonat", "cma", "not-adaptive", "not-adaptive-map", "not-adaptive-from-grid"),
    "not-adaptive-frechet",
)
"""Policies that are the same for all samples, which an entropy bound and KLASS are not."""

ADAPTIVE = (
    "adaptive",
    "adaptive-map",
    *(f"adaptive-from-{start}" for start in ("grid", "halton", "remdm")),
)
"""Policies that are held against the best of those."""


def suite(arguments: Suite) -> str:
    """Make what is missing, evaluate, compare.

    Returns:
        The report in Markdown, also written to suite.md.

    Raises:
        ValueError: an argument that is not allowed, or a folder that cannot be written.
        ImportError: a judge's packages are not installed.
    """
    arguments = arguments.resolved()
    methods = {name: METHODS[name] for name in arguments.methods or METHODS}
    check_budget(arguments, methods)
    groups: list[Group] = []
    for num_steps in arguments.num_steps:
        out = arguments.out / f"T{num_steps}"
        first = sum(len(group.lines) for group in groups)
        groups.append(Group(arguments, methods, num_steps, out, {"metrics": True}, first))

    def report() -> str:
        heading = [f"# Decoding policies on `{arguments.bundle}`", budgets(groups)]
        return "\n\n".join(heading + [_section(group) for group in groups])

    return make_and_report(groups, arguments.out / "suite.md", report)


def _section(group: Group) -> str:
    """What there is of one T."""
    found = group.compared()
    parts = [f"## T = {group.num_steps}", found.lacks, found.table]
    if found.rows:
        parts.append(provenance(found.rows))
        for title, text in (
            ("What the papers report, and whether it holds", orderings(found.rows)),
            ("What each method is worth, paired over seeds", gains(found.rows)),
        ):
            parts += [f"### {title}", text] if text else []
    parts.append(learning_speed_table(group.histories()))
    # Those of policies that are gone, too.
    pictures = sorted(group.out.glob("*.png"))
    parts += [f"![{p.stem}]({p.relative_to(group.arguments.out)})" for p in pictures]
    return "\n\n".join(filter(None, parts))


def orderings(rows: Sequence[Row]) -> str:
    """Whether the orderings of `CLAIMS` hold under each judge, see `eval.evaluation.verdicts`.

    Args:
        rows: of one T and N.
    """
    lines = []
    for claim, quantity, methods in CLAIMS:
        for judge in dict.fromkeys(row["judge"] for row in rows):
            values = by_policy(rows, judge, quantity)
            if set(methods) <= set(values):
                what = quantity.replace("_", " ")
                lines.append(f"- {claim}, {what}, {judge}: {verdict(values, methods)}")
    return "\n".join(lines)


def gains(rows: Sequence[Row]) -> str:
    """What each method is worth: against the heuristic, and adapting against not adapting.

    Under each judge, and by alignment where there is one. The best shared schedule is the one that
    this judge, on these samples, finds best: adapting has it hard.

    Args:
        rows: of one T and N. Two methods are compared on the seeds that both have.
    """
    lines = []
    for judge in dict.fromkeys(row["judge"] for row in rows):
        lines += _gains(by_policy(rows, judge, "frechet_distance"), "frechet distance", judge)
    # Of images and prompts: whichever rows have it, it is the same.
    aligned: dict[str, dict[int, float]] = {}
    for row in rows:
        if "alignment" in row:
            aligned.setdefault(row["policy"], {})[row["seed"]] = row["alignment"]
    lines += _gains(aligned, "alignment", "", higher_is_better=True)
    for judge in dict.fromkeys(row["judge"] for row in rows):
        recalls = by_policy(rows, judge, "recall")
        found = _against(recalls, "adaptive", "adaptive-pretrained", True)
        if found:
            lines.append(f"- discriminator against pretrained reward, recall, {judge}: {found}")
    return "\n".join(lines)


def _gains(
    values: Mapping[str, Mapping[int, float]],
    quantity: str,
    judge: str,
    higher_is_better: bool = False,
) -> list[str]:
    """Every method against the heuristic, and adaptive ones against the best that is not."""
    what = ", ".join(filter(None, [quantity, judge]))
    lines = [
        f"- {name} against heuristic, {what}: {found}"
        for name in values
        if name != "heuristic" and (found := _against(values, name, "heuristic", higher_is_better))
    ]
    for adaptive in ADAPTIVE:
        rivals = {
            name: float(np.mean([values[name][seed] for seed in seeds]))
            for name in SHARED
            if (seeds := values.get(name, {}).keys() & values.get(adaptive, {}).keys())
        }
        if rivals:
            best = (max if higher_is_better else min)(rivals, key=lambda name: rivals[name])
            found = _against(values, adaptive, best, higher_is_better)
            lines.append(f"- {adaptive} against the best shared schedule, {best}, {what}: {found}")
    return lines


def _against(
    values: Mapping[str, Mapping[int, float]], one: str, other: str, higher_is_better: bool
) -> str:
    return against(values.get(one, {}), values.get(other, {}), higher_is_better)


def command(arguments: Suite) -> None:
    """Compare, and show the report."""
    report = suite(arguments)
    print("", report, arguments.out / "suite.md", sep="\n")
