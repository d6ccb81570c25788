"""The papers' comparison of decoding policies, from scratch, at equal budgets of generated images.

AdaNAT's Table 5 and appendices B and D and Figure 4, AutoNAT's generation strategy: every method on
one bundle, with its own folder for each T and seed.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from agents.search import search
from agents.search.arguments import Arguments
from eval.evaluation.learning_speed import learning_speed_table
from eval.evaluation.rows import Row
from eval.evaluation.tables import provenance
from eval.evaluation.verdicts import verdict
from eval.studies.arguments import Suite
from eval.studies.trials import Group, Method, Trial, budgets, training
from nat_env.storage.claims import edited
from nat_env.storage.files import write_text


def schedule_search(about: str, name: str) -> Method:
    """A method that is nat-search."""

    def prepare(trial: Trial) -> None:
        search.search(
            Arguments(
                name,  # type: ignore[arg-type]
                out=trial.folder,
                bundle=trial.arguments.bundle,
                num_steps=trial.num_steps,
                budget=trial.arguments.trial_budget,
                seed=trial.seed,
                **trial.arguments.computation(),
            )
        )

    return Method(about, prepare, search.SCHEDULE)


METHODS: dict[str, Method] = {
    "adaptive": training("PPO, discriminator (AdaNAT)"),
    "adaptive-scratch": training(
        "PPO, discriminator that shares no network with a judge",
        {"trunk": "scratch", "widths": (32, 64, 128)},
    ),
    "not-adaptive": training("PPO, discriminator, blind to the sample", adaptive=False),
    "adaptive-frechet": training("PPO, Frechet reward", reward="frechet"),
    "not-adaptive-frechet": training(
        "PPO, Frechet reward, one configuration for all",
        reward="frechet",
        adaptive=False,
        shared_noise=True,
    ),
    "adaptive-pretrained": training("PPO, the judge's log-likelihood", reward="judge"),
    "autonat": schedule_search("finite differences of the FD (AutoNAT)", "autonat"),
    "cma": schedule_search("CMA-ES on the FD", "cma"),
}

CLAIMS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("AdaNAT Table 5", "frechet_distance", ("adaptive", "not-adaptive", "heuristic")),
    ("AdaNAT appendix B", "frechet_distance", ("not-adaptive-frechet", "adaptive-frechet")),
    ("AdaNAT appendix D", "frechet_distance", ("not-adaptive-frechet", "autonat", "adaptive")),
    ("AdaNAT Figure 4", "recall", ("adaptive-pretrained", "adaptive")),
    ("AutoNAT Table 6a", "frechet_distance", ("autonat", "heuristic")),
    ("trunk that is kin to the judge", "frechet_distance", ("adaptive", "adaptive-scratch")),
    ("no network of a judge's kin", "frechet_distance", ("adaptive-scratch", "heuristic")),
)
"""Orderings that the papers report, and of discriminators: of what, and from the lowest value to
the highest."""

NOT_ADAPTIVE = ("not-adaptive", "not-adaptive-frechet", "autonat", "cma")
"""Methods whose policies are the same for all samples."""


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
    groups: list[Group] = []
    for num_steps in arguments.num_steps:
        out = arguments.out / f"T{num_steps}"
        first = sum(len(group.lines) for group in groups)
        groups.append(Group(arguments, methods, num_steps, out, {"metrics": True}, first))
    for group in groups:
        group.check()
    for group in groups:
        group.make()
    path = arguments.out / "suite.md"
    with edited(path):  # the last of several shards has the last word
        heading = [f"# Decoding policies on `{arguments.bundle}`", budgets(arguments, methods)]
        report = "\n\n".join(heading + [_section(group) for group in groups])
        write_text(path, report + "\n")
    return report


def _section(group: Group) -> str:
    """What there is of one T."""
    found = group.compared()
    parts = [f"## T = {group.num_steps}", found.lacks, found.table]
    if found.rows:
        parts += [provenance(found.rows), orderings(found.rows), gains(found.rows)]
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
            values = _by_method(rows, judge, quantity)
            if set(methods) <= set(values):
                what = quantity.replace("_", " ")
                lines.append(f"- {claim}, {what}, {judge}: {verdict(values, methods)}")
    return "\n".join(lines)


def gains(rows: Sequence[Row]) -> str:
    """What adapting is worth, and what the discriminator keeps of diversity, under each judge.

    Args:
        rows: of one T and N. Two methods are compared on the seeds that both have.
    """
    lines = []
    for judge in dict.fromkeys(row["judge"] for row in rows):
        distances = _by_method(rows, judge, "frechet_distance")
        rivals = {
            name: means
            for name in NOT_ADAPTIVE
            if (means := _means(distances, "adaptive", name)) is not None
        }
        if rivals:
            best = min(rivals, key=lambda name: rivals[name][1])
            adaptive, other = rivals[best]
            lines.append(
                f"- adaptive against the best that is not, {best}, frechet distance, {judge}: "
                f"{adaptive:.3g} against {other:.3g}, {100 * (adaptive / other - 1):+.0f} %"
            )
        recalls = _means(_by_method(rows, judge, "recall"), "adaptive", "adaptive-pretrained")
        if recalls is not None:
            ours, pretrained = recalls
            lines.append(
                f"- discriminator against pretrained reward, recall, {judge}: {ours:.3f} against "
                f"{pretrained:.3f}, {ours - pretrained:+.3f}"
            )
    return "\n".join(lines)


def _by_method(rows: Sequence[Row], judge: str, quantity: str) -> dict[str, dict[int, float]]:
    """Values by method and seed, where they were measured."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["judge"] == judge and quantity in row:
            found.setdefault(row["policy"], {})[row["seed"]] = row[quantity]
    return found


def _means(
    values: Mapping[str, Mapping[int, float]], one: str, other: str
) -> tuple[float, float] | None:
    """Of two methods, over the seeds that both have."""
    seeds = values.get(one, {}).keys() & values.get(other, {}).keys()
    if not seeds:
        return None
    first, second = (float(np.mean([values[m][seed] for seed in seeds])) for m in (one, other))
    return first, second


def command(arguments: Suite) -> None:
    """Compare, and show the report."""
    report = suite(arguments)
    print("", report, arguments.out / "suite.md", sep="\n")
