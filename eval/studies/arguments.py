"""The options of nat-study's parts on trained policies and bundles: light to import."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import tyro
from annotated_types import Ge, Len

from agents.learners.config import TrainConfig, preset_of
from agents.learners.options import Algo
from agents.search.arguments import Grid
from eval.commands.arguments import Eval, NumSamples, Seed
from eval.commands.shards import ShardOptions
from eval.judges.names import JUDGES, JudgeName
from nat_env.commands.computation import Computation


@dataclass(frozen=True)
class Comparison(ShardOptions):
    """Trainings or searches from scratch at equal budgets, and their evaluation."""

    out: Path
    """Folder for the report, and a sub-folder for each trial."""
    quick: bool = False
    """Seed 0, two thirds of the images, N = 2000."""
    bundle: str = "fashion"
    """A shipped bundle's name or a folder."""
    seeds: Annotated[tuple[Seed, ...], Len(1)] = (0, 1, 2)
    """Each is a trial of its own, evaluated on its own samples."""
    budget: Annotated[int, Ge(1)] | None = None
    """Images of each training or search; by default that of the bundle's preset of nat-train."""
    num_samples: NumSamples = 10_000
    """N, images of an evaluation."""
    judges: tuple[JudgeName, ...] = JUDGES
    """Judges beside the bundle's own, which nothing here is trained with; `--judges` alone is
    none."""
    progress: Annotated[bool, tyro.conf.Suppress] = True

    @property
    def preset(self) -> TrainConfig:
        """Of nat-train for the bundle."""
        return preset_of(self.bundle)

    @property
    def trial_budget(self) -> int:
        """Images of each trial, by `budget`, `quick` and the preset."""
        default = self.preset.budget
        return self.budget or (default * 2 // 3 if self.quick else default)

    def resolved(self) -> Self:
        """With the numbers that `quick` and defaults stand for."""
        found = dataclasses.replace(self, budget=self.trial_budget)
        if not self.quick:
            return found
        return dataclasses.replace(found, seeds=(0,), num_samples=min(self.num_samples, 2000))


GridName = Literal["grid", "halton", "entropy-bound", "klass", "remdm"]
MethodName = Literal[
    GridName,
    "autonat",
    "cma",
    "not-adaptive",
    "adaptive",
    "not-adaptive-map",
    "adaptive-map",
    "not-adaptive-from-grid",
    "adaptive-from-grid",
    "adaptive-from-halton",
    "adaptive-from-remdm",
    "adaptive-scratch",
    "not-adaptive-frechet",
    "adaptive-frechet",
    "adaptive-pretrained",
]
"""See `eval.studies.methods`."""


@dataclass(frozen=True)
class Suite(Comparison):
    """The papers' comparison of decoding policies, from scratch, at equal budgets of images.

    Called again, it goes on where it stopped: by a seed, a T or a method more, if asked for more.
    The report is suite.md; --quick is for T = 4 alone.
    """

    methods: tuple[MethodName, ...] = ()
    """Some of the methods by name; by default all."""
    num_steps: Annotated[tuple[Annotated[int, Ge(1)], ...], Len(1)] = (4, 8)
    """Values of T."""

    def resolved(self) -> Self:
        """With the numbers that `quick` and defaults stand for."""
        return dataclasses.replace(
            super().resolved(), num_steps=(4,) if self.quick else self.num_steps
        )


SharedName = Literal[GridName, "autonat", "cma", "not-adaptive"]


@dataclass(frozen=True)
class Pareto(Comparison):
    """Quality against passes: schedules of many T, and policies that decide how many they take.

    Called again, it goes on where it stopped. The report is pareto.md, its picture pareto.png.
    """

    num_steps: Annotated[tuple[Annotated[int, Ge(1)], ...], Len(1)] = (2, 3, 4, 6, 8, 12, 16)
    """Values of T of the heuristic and of schedules."""
    methods: tuple[SharedName, ...] = ("grid", "halton", "entropy-bound", "cma", "not-adaptive")
    """Ways to a schedule, beside the heuristic; `--methods` alone is none."""
    most_steps: Annotated[int, Ge(2)] = 8
    """T of adaptive policies: passes that they may take at most."""
    step_costs: Annotated[tuple[Annotated[float, Ge(0)], ...], Len(1)] = (0.0, 0.01, 0.03, 0.1)
    """Of each pass, in units of the reward: an adaptive policy for each."""

    def resolved(self) -> Self:
        """With the numbers that `quick` and defaults stand for."""
        return dataclasses.replace(
            super().resolved(), num_steps=(2, 4, 8) if self.quick else self.num_steps
        )


@dataclass(frozen=True)
class Trainings(Comparison):
    """Trainings, each with other options of nat-train."""

    num_steps: Annotated[int, Ge(1)] = 4
    """T, decoding steps."""
    eval_every: Annotated[int, Ge(1)] | None = None
    """Rounds between evaluations, the points of the curves; by default those of the preset."""


@dataclass(frozen=True)
class Learners(Trainings):
    """Train a policy by every learner and seed, and compare what the last ones decode.

    Writes algorithms.md, results.json and the learning curves, curves.png. Called again, it goes on
    where it stopped: by a seed or a learner more, if asked for more.
    """

    algos: tuple[Algo, ...] = ()
    """Some of the learners by name, see `nat-train --algo`; by default all."""


ChangeName = Literal[
    "defaults",
    "from-scratch",
    "narrow-std",
    "constant-rate",
    "one-epoch",
    "narrow-network",
    "small-batches",
    "whole-rounds",
    "no-critic",
    "no-warm-up",
    "five-updates",
    "fresh-samples",
    "map",
    "averaged",
    "by-condition",
    "groups",
    "averaged-by-condition",
    "raw-reals",
]
"""See `eval.studies.options`."""


@dataclass(frozen=True)
class Options(Trainings):
    """Train with options of nat-train changed one at a time, and compare what the policies decode.

    Writes options.md, results.json and the learning curves, curves.png. Called again, it goes on
    where it stopped: by a seed or a change more, if asked for more.
    """

    changes: tuple[ChangeName, ...] = ()
    """Some by name, as in the report; by default all."""


Values = Annotated[tuple[Annotated[float, Ge(0)], ...], Len(1)]


@dataclass(frozen=True)
class Quality(Computation):
    """Measure a bundle's samples with the papers' schedule and with the best of a small grid.

    Writes quality.md, results.json, a picture per T, and the grids' trials. Called again, it
    computes only what is missing.
    """

    out: Path
    """Folder for all that is written."""
    bundle: str = "fashion"
    """A shipped bundle's name or a folder."""
    num_steps: Annotated[tuple[Annotated[int, Ge(1)], ...], Len(1)] = (4, 8, 16, 32)
    """Values of T."""
    num_samples: NumSamples = 2000
    """N, images of an evaluation."""
    grid_samples: Annotated[int, Ge(2)] = 500
    """Images of a trial of the grid."""
    remask_slopes: Values = (2.0, 4.0, 8.0)
    """lambda of the grid."""
    guidance_slopes: Values = (0.5, 1.0)
    """k of the grid."""
    sampling_temperatures: Values = (0.8, 1.0)
    """tau_1 of the grid, at all steps."""
    seed: Seed = 0
    """Of the evaluation; the grids have samples of their own."""
    judges: tuple[JudgeName, ...] = JUDGES
    """Judges beside the bundle's own, which nothing here is trained with; `--judges` alone is
    none."""

    def grid(self, num_steps: int) -> Grid:
        """The grid at one T."""
        return Grid(
            out=self.out,
            bundle=self.bundle,
            num_steps=num_steps,
            num_samples=self.grid_samples,
            remask_slopes=self.remask_slopes,
            guidance_slopes=self.guidance_slopes,
            sampling_temperatures=self.sampling_temperatures,
            **self.computation(),
        )

    def evaluation(self, num_steps: int, best: Path) -> Eval:
        """The papers' schedule and the best of the grid at one T."""
        return Eval(
            policies=("heuristic", str(best)),
            out=self.out,
            num_steps=num_steps,
            num_samples=self.num_samples,
            seeds=(self.seed,),
            bundle=self.bundle,
            judges=self.judges,
            **self.computation(),
        )


@dataclass(frozen=True)
class Inpainting(Computation):
    """Draw the lower half of Fashion-MNIST's test images anew, several times each: a picture."""

    out: Path
    """Folder for inpainting.png."""
    policy: str = "heuristic"
    """As nat-sample has it."""
    num_steps: Annotated[int, Ge(1)] | None = None
    """T, decoding steps. By default that of the run or schedule, and 8 for a heuristic."""
    num_images: Annotated[int, Ge(1)] = 16
    """The first of each class in turn."""
    completions: Annotated[int, Ge(1)] = 4
    """Of each image."""
    data: Path | None = None
    """Folder of the four files of Fashion-MNIST. By default that of Debian's package
    dataset-fashion-mnist, or else they are downloaded once."""
    seed: Annotated[int, Ge(0)] = 0
    """Of the first completion; each one has numbers of its own."""


@dataclass(frozen=True)
class Demo(Computation):
    """Train an adaptive decoding policy, compare it with the papers' schedule, and show it.

    Called again, it goes on where it stopped, and only reports what is finished.
    """

    out: Path = Path("runs/demo")
    """Folder for the run, the results, the report and its pictures."""
    bundle: str = "fashion"
    """A shipped bundle's name or a folder, trained with its preset of nat-train, or else with
    `custom`."""
    budget: Annotated[int, Ge(1)] | None = None
    """Images of the training; by default half of the preset's, for slow machines' sake."""
    num_samples: NumSamples = 2000
    """N, images of the evaluation; with another judge more than 1280."""
    judges: tuple[JudgeName, ...] = JUDGES
    """Judges beside the bundle's own, which nothing here is trained with; `--judges` alone is
    none."""
    seed: Seed = 0
    """Of training and evaluation alike."""
