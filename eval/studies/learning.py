"""Trainings from scratch compared at equal budgets: distances, learning speed, learning curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.learners.algorithms import algorithm_of
from agents.runs.validation import validate
from eval.evaluation.learning_speed import learning_speed_table
from eval.evaluation.rows import Row
from eval.evaluation.tables import provenance
from eval.evaluation.verdicts import against, by_policy
from eval.pictures.curves import save_learning_curves
from eval.studies.arguments import Trainings
from eval.studies.methods import training, training_config
from eval.studies.trials import Group, Trial, budgets, make_and_report
from nat_env.bundles.loading import bundle_folder, load_bundle
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule

CURVES = "curves.png"

Changes = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Trainings by name: what each is, and its options of nat-train besides the preset's."""


def trials_of(arguments: Trainings, trainings: Changes) -> Group:
    """Trials and their evaluation.

    Raises:
        ValueError: an unknown bundle, a budget that ends with the warm-up, or options that a
            training would refuse.
    """
    bundle_folder(arguments.bundle)  # its own error comes before those of numbers
    least = arguments.preset.policy_rests_for + arguments.preset.trajectories_per_round
    if arguments.trial_budget < least:
        raise ValueError(
            f"budget: got {arguments.trial_budget}, allowed is >= {least}, one round after the "
            "warm-up"
        )
    every = {} if arguments.eval_every is None else {"eval_every": arguments.eval_every}
    for _, changes in trainings.values():
        trial = Trial(arguments, arguments.num_steps, arguments.seeds[0], arguments.out)
        config = training_config(trial, **every, **changes)
        algorithm_of(config).options(config)
    methods = {
        name: training(about, **every, **changes) for name, (about, changes) in trainings.items()
    }
    return Group(arguments, methods, arguments.num_steps, arguments.out, {"pictures": False})


def compare(arguments: Trainings, subject: str, trainings: Changes) -> str:
    """Train what is missing, evaluate, draw.

    Args:
        arguments: of the study.
        subject: what is compared, for the heading and the report's name.
        trainings: by name.

    Returns:
        The report in Markdown, also written to a file named after the subject.

    Raises:
        ValueError: an argument that is not allowed, a folder that cannot be written, or one with
            trials of another budget, T or bundle.
        ImportError: a judge's packages are not installed.
    """
    arguments = arguments.resolved()
    group = trials_of(arguments, trainings)
    drawn = f"![Learning curves]({CURVES})"

    def told() -> str:
        found = group.compared()
        if not found.lacks:
            _draw(group)
        parts = [
            f"# {subject.capitalize()} on `{arguments.bundle}`, T = {arguments.num_steps}",
            budgets([group]),
            found.lacks,
            found.table,
            provenance(found.rows) if found.rows else "",
            paired(found.rows, list(trainings)),
            learning_speed_table(group.histories()),
            "" if found.lacks else drawn,
        ]
        return "\n\n".join(filter(None, parts))

    path = arguments.out / f"{subject}.md"
    report = make_and_report([group], path, told)
    pictures = [arguments.out / CURVES] if drawn in report else []
    print("", report, "", *pictures, path, sep="\n")
    return report


def paired(rows: Sequence[Row], names: Sequence[str]) -> str:
    """The distances of every training against the heuristic's and the first training's, by seed.

    Args:
        rows: of the evaluation.
        names: of the trainings, in their order.

    Returns:
        A section in Markdown, nothing where there is nothing to compare.
    """
    pairs = [(name, "heuristic") for name in names] + [(name, names[0]) for name in names[1:]]
    lines = []
    for judge in dict.fromkeys(row["judge"] for row in rows):
        values = by_policy(rows, judge, "frechet_distance")
        for name, rival in pairs:
            found = against(values.get(name, {}), values.get(rival, {}))
            lines += [f"- {name} against {rival}, {judge}: {found}"] if found else []
    return "\n".join(["### What each is worth, paired over seeds", "", *lines] if lines else [])


def _draw(group: Group) -> None:
    """The learning curves, and the heuristic on the samples that these were measured on.

    Of each training's seed there are others; the line is the mean, as the curves are.
    """
    arguments, num_steps = group.arguments, group.num_steps
    bundle = load_bundle(arguments.bundle, **arguments.models())
    num_samples = arguments.preset.num_samples
    heuristic = ScheduledPolicy(heuristic_schedule(num_steps))
    levels = [
        validate(bundle, heuristic, num_steps, num_samples, seed).frechet_distance
        for seed in arguments.seeds
    ]
    judge = bundle.require("yardstick").name
    about = f"{bundle.name}, T = {num_steps}, {judge}, N = {num_samples}"
    save_learning_curves(group.out / CURVES, group.histories(), float(np.mean(levels)), about)
