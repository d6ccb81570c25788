"""Trainings from scratch compared at equal budgets: distances, learning speed, learning curves."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from agents.learners.algorithms import algorithm_of
from agents.runs.validation import validate
from eval.commands import nat_eval
from eval.evaluation.learning_speed import learning_speed_table
from eval.pictures.curves import save_learning_curves
from eval.studies.trials import Comparison, Group, Trial, budgets, training, training_config
from nat_env.bundles.bundle import load_bundle
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule
from nat_env.storage.files import write_text

CURVES = "curves.png"

Changes = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Trainings by name: what each is, and its options of nat-train besides the preset's."""


def chosen(argument: str, names: tuple[str, ...], every: Changes) -> Changes:
    """Those of `every` training that are named, in that order; all where none is.

    Raises:
        ValueError: an unknown name; `argument` is the option that it was given by.
    """
    for name in names:
        if name not in every:
            raise ValueError(f"{argument}: got {name!r}, allowed are {list(every)}")
    return {name: every[name] for name in names or every}


@dataclass(frozen=True)
class Trainings(Comparison, ABC):
    """Options of a command that compares trainings with some options of nat-train changed."""

    num_steps: int = 4
    """T, decoding steps."""
    eval_every: int | None = None
    """Rounds between evaluations, the points of the curves; by default those of the preset."""

    subject: ClassVar[str]
    """What is compared, for the heading and the report's name."""

    @property
    @abstractmethod
    def trainings(self) -> Changes:
        """What is compared."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: a bundle without a preset, no seed, a number out of its range, or options
                that a training would refuse.
        """
        super().__post_init__()
        least = self.preset.policy_rests_for + self.preset.trajectories_per_round
        if self.budget < least:
            raise ValueError(
                f"images: got {self.budget}, allowed is >= {least}, one round after the warm-up"
            )
        for _, changes in self.trainings.values():
            trial = Trial(self, self.num_steps, self.seeds[0], self.out)
            config = training_config(trial, **self._options, **changes)
            algorithm_of(config).options(config)

    @property
    def _options(self) -> Mapping[str, int]:
        return {} if self.eval_every is None else {"eval_every": self.eval_every}

    def group(self) -> Group:
        """Trials and their evaluation."""
        methods = {
            name: training(about, **self._options, **changes)
            for name, (about, changes) in self.trainings.items()
        }
        return Group(self, methods, self.num_steps, self.out, {"pictures": False})


def compare(arguments: Trainings) -> str:
    """Train what is missing, evaluate, draw.

    Returns:
        The report in Markdown, also written to a file named after the subject.

    Raises:
        ValueError: an argument that is not allowed, a folder that cannot be written, or one with
            trials of another budget, T or bundle.
        ImportError: the second judge's packages are not installed.
    """
    arguments = arguments.resolved()
    group = arguments.group()
    group.check()
    group.make()
    table, _ = nat_eval.run(group.evaluation())
    _draw(group)
    parts = [
        f"# {arguments.subject.capitalize()} on `{arguments.bundle}`, T = {arguments.num_steps}",
        budgets(arguments, group.methods),
        table,
        learning_speed_table(group.histories()),
        f"![Learning curves]({CURVES})",
    ]
    report = "\n\n".join(parts)
    write_text(arguments.out / f"{arguments.subject}.md", report + "\n")
    return report


def _draw(group: Group) -> None:
    """The learning curves, and the heuristic on the samples that these were measured on."""
    arguments, num_steps = group.arguments, group.num_steps
    bundle = load_bundle(arguments.bundle, arguments.dtype, arguments.device)
    num_samples = arguments.preset.eval_samples
    heuristic = ScheduledPolicy(heuristic_schedule(num_steps))
    level = validate(bundle, heuristic, num_steps, num_samples).frechet_distance
    about = f"{bundle.name}, T = {num_steps}, {bundle.judge_name}, N = {num_samples}"
    save_learning_curves(group.out / CURVES, group.histories(), level, about)


def run_command(parse: Callable[..., Any], command: type[Trainings], name: str) -> None:
    """Parse the command line of a command named so, compare, and say so."""
    try:
        arguments = parse(command, f"python -m {name}")
        torch.set_num_threads(arguments.threads)
        report = compare(arguments)
    except (ValueError, ImportError) as error:
        raise SystemExit(f"{name}: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(f"{name}: interrupted; the same command goes on") from None
    written = (arguments.out / CURVES, arguments.out / f"{arguments.subject}.md")
    print("", report, "", *written, sep="\n")
