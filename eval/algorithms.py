"""Reinforcement learners compared, from scratch, at equal budgets of generated images.

Every learner of `nat-train --algo` on one bundle, with its default options.

    python -m eval.algorithms --bundle fashion --out runs/algorithms
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch

from agents.algorithms import ALGORITHMS, algorithm_of
from agents.evaluation import evaluate
from eval import run
from eval.curves import save_learning_curves
from eval.learning_speed import learning_speed_table
from eval.trials import Comparison, Group, Method, Trial, budgets, training, training_config
from nat_env.bundle import load_bundle
from nat_env.command_line import parse
from nat_env.files import write_text
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule

REPORT = "algorithms.md"
CURVES = "curves.png"


@dataclass(frozen=True)
class Arguments(Comparison):
    """Train a policy by every learner and seed, and compare what the last ones decode.

    Writes algorithms.md, results.json and the learning curves, curves.png. Called again, it goes on
    where it stopped: by a seed or a learner more, if asked for more.
    """

    algos: tuple[str, ...] = ()
    """Some of the learners by name, see `nat-train --algo`; by default all."""
    num_steps: int = 4
    """T, decoding steps."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: a bundle without a preset, an unknown learner, no seed, or a number out of
                its range.
        """
        super().__post_init__()
        for name in self.algos:
            if name not in ALGORITHMS:
                raise ValueError(f"algos: got {name!r}, allowed are {list(ALGORITHMS)}")
        least = self.preset.policy_rests_for + self.preset.trajectories_per_round
        if self.budget < least:
            raise ValueError(
                f"images: got {self.budget}, allowed is >= {least}, one round after the warm-up"
            )
        for name in self.algos or ALGORITHMS:
            trial = Trial(self, self.num_steps, self.seeds[0], self.out)
            config = training_config(trial, algo=name)
            algorithm_of(config).options(config)

    def resolved(self) -> Self:
        """With the numbers that `quick` and defaults stand for."""
        return dataclasses.replace(super().resolved(), algos=self.algos or tuple(ALGORITHMS))

    def methods(self) -> Mapping[str, Method]:
        """A training for each learner."""
        chosen = {name: ALGORITHMS[name] for name in self.algos}
        return {name: training(algorithm.about, algo=name) for name, algorithm in chosen.items()}


def compare(arguments: Arguments) -> str:
    """Train what is missing, evaluate, draw.

    Returns:
        The report in Markdown, also written to algorithms.md.

    Raises:
        ValueError: an argument that is not allowed, a folder that cannot be written, or one with
            trials of another budget, T or bundle.
        ImportError: the second judge's packages are not installed.
    """
    arguments = arguments.resolved()
    methods = arguments.methods()
    group = Group(arguments, methods, arguments.num_steps, arguments.out, {"pictures": False})
    group.check()
    group.make()
    table, _ = run.run(group.evaluation())
    _draw(group)
    parts = [
        f"# Learners on `{arguments.bundle}`, T = {arguments.num_steps}",
        budgets(arguments, methods),
        table,
        learning_speed_table(group.histories()),
        f"![Learning curves]({CURVES})",
    ]
    report = "\n\n".join(parts)
    write_text(arguments.out / REPORT, report + "\n")
    return report


def _draw(group: Group) -> None:
    """The learning curves, and the heuristic on the samples that these were measured on."""
    arguments, num_steps = group.arguments, group.num_steps
    bundle = load_bundle(arguments.bundle, arguments.dtype, arguments.device)
    num_samples = arguments.preset.eval_samples
    heuristic = ScheduledPolicy(heuristic_schedule(num_steps))
    level = evaluate(bundle, heuristic, num_steps, num_samples).frechet_distance
    about = f"{bundle.name}, T = {num_steps}, {bundle.judge_name}, N = {num_samples}"
    save_learning_curves(group.out / CURVES, group.histories(), level, about)


def main() -> None:
    """Entry point."""
    try:
        arguments = parse(Arguments, "python -m eval.algorithms")
        torch.set_num_threads(arguments.threads)
        report = compare(arguments)
    except (ValueError, ImportError) as error:
        raise SystemExit(f"eval.algorithms: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("eval.algorithms: interrupted; the same command goes on") from None
    print("", report, "", arguments.out / CURVES, arguments.out / REPORT, sep="\n")


if __name__ == "__main__":
    main()
