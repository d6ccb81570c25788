"""Quality against passes: schedules of many T, and adaptive policies that pay for their passes.

The plot of this field. A schedule takes as many passes of every sample; a policy whose reward has a
cost of passes decides by sample.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from eval.evaluation.rows import Row
from eval.evaluation.tables import markdown_line, mean_and_spread, provenance
from eval.evaluation.verdicts import difference
from eval.pictures.pareto import save_pareto
from eval.studies.arguments import Pareto
from eval.studies.methods import METHODS, check_budget, training
from eval.studies.trials import Group, Method, budgets, make_and_report

Points = dict[int, tuple[float, float]]
"""By seed: mean passes, and the Frechet distance."""


def cost_name(cost: float) -> str:
    """Of an adaptive policy that was trained with a cost of passes.

    Example:
        >>> cost_name(0.05)
        'adaptive-cost-0.05'
    """
    return f"adaptive-cost-{cost:g}"


def pareto(arguments: Pareto) -> str:
    """Make what is missing, evaluate, compare.

    Returns:
        The report in Markdown, also written to pareto.md, beside pareto.png.

    Raises:
        ValueError: an argument that is not allowed, or a folder that cannot be written.
        ImportError: a judge's packages are not installed.
    """
    arguments = arguments.resolved()
    check_budget(arguments, arguments.methods)
    groups: list[Group] = []
    for num_steps in sorted({*arguments.num_steps, arguments.most_steps}):
        methods: dict[str, Method] = {}
        if num_steps in arguments.num_steps:
            methods |= {name: METHODS[name] for name in arguments.methods}
        if num_steps == arguments.most_steps:
            about = "PPO, discriminator less a cost of passes"
            methods |= {cost_name(c): training(about, step_cost=c) for c in arguments.step_costs}
        first = sum(len(group.lines) for group in groups)
        out = arguments.out / f"T{num_steps}"
        groups.append(Group(arguments, methods, num_steps, out, {"pictures": False}, first))

    def report() -> str:
        compared = [group.compared() for group in groups]
        rows = [row for found in compared for row in found.rows]
        adaptive = [cost_name(cost) for cost in arguments.step_costs]
        parts = [f"# Quality against passes on `{arguments.bundle}`", budgets(groups)]
        parts += [found.lacks for found in compared]
        if rows:
            save_pareto(arguments.out / "pareto.png", rows, arguments.bundle, adaptive)
            parts += ["![FD against passes](pareto.png)", table(rows), savings(rows, adaptive)]
            parts += [provenance(rows)]
        return "\n\n".join(filter(None, parts))

    return make_and_report(groups, arguments.out / "pareto.md", report)


def table(rows: Sequence[Row]) -> str:
    """Every policy and T under each judge, by its passes."""
    lines = ["| judge | policy | T | passes | FD |", "| --- | --- | ---: | ---: | ---: |"]
    for judge in dict.fromkeys(row["judge"] for row in rows):
        found = points(rows, judge)
        order = sorted(found, key=lambda name: np.mean([p for p, _ in found[name].values()]))
        for policy, num_steps in order:
            passes, distances = zip(*found[policy, num_steps].values(), strict=True)
            lines.append(
                markdown_line(
                    [
                        judge,
                        policy,
                        str(num_steps),
                        mean_and_spread(passes),
                        mean_and_spread(distances),
                    ]
                )
            )
    return "\n".join(lines)


def points(
    rows: Sequence[Row], judge: str
) -> dict[tuple[str, int], dict[int, tuple[float, float]]]:
    """What is known under a judge, by policy and T."""
    found: dict[tuple[str, int], dict[int, tuple[float, float]]] = {}
    for row in rows:
        if row["judge"] == judge:
            of = found.setdefault((row["policy"], row["num_steps"]), {})
            of[row["seed"]] = row["passes"], row["frechet_distance"]
    return found


def savings(rows: Sequence[Row], adaptive: Sequence[str]) -> str:
    """How many passes fewer each adaptive policy takes than the best of the others of its FD.

    Args:
        rows: of one bundle and N.
        adaptive: the policies' names; all others are schedules, by the papers' rule or a sampler.
    """
    lines = []
    for judge in dict.fromkeys(row["judge"] for row in rows):
        found = points(rows, judge)
        fixed = [of for (name, _), of in found.items() if name not in adaptive]
        for (name, _), of in found.items():
            if name in adaptive:
                lines.append(f"- {name}, {judge}: {_saving(of, fixed)}")
    return "\n".join(lines)


def _saving(policy: Points, schedules: Sequence[Points]) -> str:
    """By seed, each against the schedules of that seed."""
    needed: dict[int, float] = {}
    for seed, (_, distance) in policy.items():
        of_seed = [of[seed] for of in schedules if seed in of]
        passes = passes_for(distance, of_seed)
        if passes is not None:
            needed[seed] = passes
    missed = len(policy) - len(needed)
    alone = f"in {missed} of {len(policy)} seeds none of the others reaches its FD"
    if not needed:
        return alone
    taken = {seed: policy[seed][0] for seed in needed}
    ours, theirs = (float(np.mean([*of.values()])) for of in (taken, needed))
    told = (
        f"{ours:.2f} passes where the best of the others needs {theirs:.2f} "
        f"({100 * (ours / theirs - 1):+.0f} %), fewer {difference(taken, needed)}"
    )
    return f"{told}; {alone}" if missed else told


def passes_for(distance: float, schedules: Sequence[tuple[float, float]]) -> float | None:
    """Passes with which the best of some schedules, as passes and FD, reaches a distance.

    Between the schedules that are there the logarithm of the FD is a straight line. None where no
    schedule is as good; of a distance worse than all, the least passes.

    Example:
        >>> passes_for(2.0, [(4, 4.0), (8, 1.0), (8, 3.0)])
        6.0
        >>> passes_for(0.5, [(4, 4.0), (8, 1.0)]) is None
        True
    """
    best: list[tuple[float, float]] = []  # what no schedule of fewer passes is as good as
    for passes, found in sorted(schedules):
        if not best or found < best[-1][1]:
            best.append((passes, found))
    if not best or distance < best[-1][1]:
        return None
    for (before, worse), (after, better) in itertools.pairwise(best):
        if better <= distance < worse:
            share = np.log(worse / distance) / np.log(worse / better)
            return float(before + share * (after - before))
    return float(best[0][0])


def command(arguments: Pareto) -> None:
    """Compare, and show the report."""
    report = pareto(arguments)
    print("", report, arguments.out / "pareto.md", sep="\n")
