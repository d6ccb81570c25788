"""The papers' comparison of decoding policies, from scratch, at equal budgets of generated images.

AdaNAT's Table 5 and appendices B and D and Figure 4, AutoNAT's generation strategy: every method on
one bundle, with its own folder for each T and seed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.search import grid, search
from agents.search.arguments import Arguments, Grid
from eval.evaluation.learning_speed import learning_speed_table
from eval.evaluation.rows import Row
from eval.evaluation.tables import provenance
from eval.evaluation.verdicts import against, verdict
from eval.studies.arguments import Comparison, Suite
from eval.studies.trials import Group, Method, Trial, budgets, make_and_report, training
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import load_bundle

_GRID = {"guidance_slopes": (0.5, 1.0), "sampling_temperatures": (0.8, 1.0)}

GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "grid": _GRID | {"remask_slopes": (1.0, 2.0, 4.0, 8.0)},
    "halton": {
        "samplers": ("halton",),
        "remask_slopes": (1.0,),
        "guidance_slopes": (0.25, 0.5, 1.0, 2.0),
        "sampling_temperatures": (0.7, 0.8, 0.9, 1.0),
    },
    "entropy-bound": _GRID
    | {
        "samplers": tuple(f"entropy-bound({gamma})" for gamma in (2, 8, 24, 64)),
        "remask_slopes": (1.0,),
    },
    "klass": _GRID
    | {
        "samplers": tuple(f"klass({c}, {d})" for c in (0.3, 0.6) for d in (0.1, 1)),
        "remask_slopes": (1.0,),
    },
    "remdm": _GRID | {"samplers": ("remdm(0.1)", "remdm(0.3)"), "remask_slopes": (1.0, 4.0)},
}
"""What a hand would try, by method: lambda, k and tau_1 of the heuristic, which is one of these, or
a sampler's numbers, k and tau_1."""

GRID_TRIALS = math.prod(len(values) for values in GRIDS["grid"].values())
"""Of each grid."""


def score_samples(bundle: Bundle) -> int:
    """Images of a search's score: more than an embedding by the bundle's judge has numbers."""
    return max(256, 2 * bundle.require("yardstick").statistics.mean.size)


def schedule_search(about: str, name: str) -> Method:
    """A method that is nat-search."""

    def prepare(trial: Trial) -> int:
        arguments = trial.arguments
        found = search.search(
            Arguments(
                name,  # type: ignore[arg-type]
                out=trial.folder,
                bundle=arguments.bundle,
                num_steps=trial.num_steps,
                budget=arguments.trial_budget,
                num_samples=score_samples(load_bundle(arguments.bundle, **arguments.models())),
                seed=trial.seed,
                **arguments.computation(),
            )
        )
        return found.images

    return Method(about, prepare, search.SCHEDULE)


def hand_grid(about: str, name: str = "grid") -> Method:
    """A method that is nat-search grid, each trial with its part of the budget."""

    def prepare(trial: Trial) -> int:
        asked = Grid(
            out=trial.folder,
            bundle=trial.arguments.bundle,
            num_steps=trial.num_steps,
            num_samples=trial.arguments.trial_budget // GRID_TRIALS,
            seed=trial.seed,
            **GRIDS[name],
            **trial.arguments.computation(),
        )
        return len(grid.run(asked)) * asked.num_samples

    return Method(about, prepare, grid.best_path(Path(), "{num_steps}").name)


METHODS: dict[str, Method] = {
    "grid": hand_grid(f"the best of {GRID_TRIALS} heuristics by FD"),
    "halton": hand_grid(f"Halton order, the best of {GRID_TRIALS} by FD", "halton"),
    "entropy-bound": hand_grid(f"EB-Sampler, the best of {GRID_TRIALS} by FD", "entropy-bound"),
    "klass": hand_grid(f"KLASS, the best of {GRID_TRIALS} by FD", "klass"),
    "remdm": hand_grid(f"ReMDM, the best of {GRID_TRIALS} by FD", "remdm"),
    "autonat": schedule_search("finite differences of the FD (AutoNAT)", "autonat"),
    "cma": schedule_search("CMA-ES on the FD", "cma"),
    "not-adaptive": training("PPO, discriminator, blind to the sample", adaptive=False),
    "adaptive": training("PPO, discriminator (AdaNAT)"),
    "adaptive-scratch": training(
        "PPO, discriminator that shares no network with a judge",
        {"trunk": "scratch", "widths": (32, 64, 128)},
    ),
    "not-adaptive-frechet": training(
        "PPO, Frechet reward, one configuration for all",
        reward="frechet",
        adaptive=False,
        shared_noise=True,
    ),
    "adaptive-frechet": training("PPO, Frechet reward", reward="frechet"),
    "adaptive-pretrained": training("PPO, the judge's log-likelihood", reward="judge"),
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

SHARED = (
    "heuristic",
    *("grid", "halton", "remdm"),
    *("autonat", "cma", "not-adaptive", "not-adaptive-frechet"),
)
"""Policies that are the same for all samples, which an entropy bound and KLASS are not."""


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


def check_budget(arguments: Comparison, methods: Iterable[str]) -> None:
    """Refuse, before any training, a budget of which a search could not score one schedule.

    Raises:
        ValueError: it is too small, or the bundle has no judge or is none.
    """
    bundle = load_bundle(arguments.bundle, **arguments.models())
    needed = {name: score_samples(bundle) for name in ("autonat", "cma")}
    rank = bundle.require("yardstick").statistics.mean.size + 1
    needed |= dict.fromkeys(GRIDS, GRID_TRIALS * rank)
    for name in needed.keys() & set(methods):
        if arguments.trial_budget < needed[name]:
            raise ValueError(
                f"budget: got {arguments.trial_budget}, allowed with the method {name} is >= "
                f"{needed[name]}; spend more, or name other methods"
            )


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
            values = _by_method(rows, judge, quantity)
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
        lines += _gains(_by_method(rows, judge, "frechet_distance"), "frechet distance", judge)
    # Of images and prompts: whichever rows have it, it is the same.
    aligned: dict[str, dict[int, float]] = {}
    for row in rows:
        if "alignment" in row:
            aligned.setdefault(row["policy"], {})[row["seed"]] = row["alignment"]
    lines += _gains(aligned, "alignment", "", higher_is_better=True)
    for judge in dict.fromkeys(row["judge"] for row in rows):
        recalls = _by_method(rows, judge, "recall")
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
    """Every method against the heuristic, and adaptive against the best of those that are not."""
    what = ", ".join(filter(None, [quantity, judge]))
    lines = [
        f"- {name} against heuristic, {what}: {found}"
        for name in values
        if name != "heuristic" and (found := _against(values, name, "heuristic", higher_is_better))
    ]
    rivals = {
        name: float(np.mean([values[name][seed] for seed in seeds]))
        for name in SHARED
        if (seeds := values.get(name, {}).keys() & values.get("adaptive", {}).keys())
    }
    if rivals:
        best = (max if higher_is_better else min)(rivals, key=lambda name: rivals[name])
        found = _against(values, "adaptive", best, higher_is_better)
        lines.append(f"- adaptive against the best shared schedule, {best}, {what}: {found}")
    return lines


def _against(
    values: Mapping[str, Mapping[int, float]], one: str, other: str, higher_is_better: bool
) -> str:
    return against(values.get(one, {}), values.get(other, {}), higher_is_better)


def _by_method(rows: Sequence[Row], judge: str, quantity: str) -> dict[str, dict[int, float]]:
    """Values by method and seed, where they were measured."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["judge"] == judge and quantity in row:
            found.setdefault(row["policy"], {})[row["seed"]] = row[quantity]
    return found


def command(arguments: Suite) -> None:
    """Compare, and show the report."""
    report = suite(arguments)
    print("", report, arguments.out / "suite.md", sep="\n")
