"""The options of nat-tune: light to import."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from annotated_types import Ge, Lt

from agents.learners.config import PRESETS, TrainConfig
from agents.learners.options import Algo
from nat_env.commands.computation import DeviceOptions
from nat_env.seeds import TRAINING


@dataclass(frozen=True)
class Tune(DeviceOptions):
    """Find good options of a learner for nat-train, by short trainings.

    The first one has the usual options. A training whose best Frechet distance so far is above
    the median of the others' at that point is given up early. Writes a run folder for each
    training, Optuna's journal study.log, and best.json with the best options and the nat-train
    command that takes them. The same command goes on where it stopped; with more --trials it goes
    further.
    """

    preset: Annotated[Literal["fashion", "emoji", "digits", "custom"], tyro.conf.Positional]
    """Of nat-train; `custom` takes a bundle of your own."""
    out: Path
    """Folder of the study."""
    bundle: str | None = None
    """A shipped bundle's name or a folder; by default that of the preset, but `custom` has none."""
    algo: Algo = "ppo"
    """Learner, see `nat-train --algo`; what is varied is in agents/tuning/spaces.py."""
    trials: Annotated[int, Ge(1)] = 20
    """Trainings of the whole study, with those given up."""
    budget: Annotated[int, Ge(1)] | None = None
    """Images of a training; by default half of the preset's."""
    num_steps: Annotated[int, Ge(1)] = 4
    """T, decoding steps."""
    eval_every: Annotated[int, Ge(1)] = 5
    """Rounds between the evaluations of a training."""
    scored: Annotated[int, Ge(1)] = 3
    """The mean FD of so many evaluations at the end is a training's score: the best of all would
    be a lucky one."""
    unpruned: Annotated[int, Ge(1)] = 5
    """Trainings that are not given up, with options drawn at random, before later ones are."""
    seed: Annotated[int, Ge(0), Lt(TRAINING.limit)] = 0
    """Of the options drawn, and of all trainings."""

    def __post_init__(self) -> None:
        """Check every field, and that nat-train takes them.

        Raises:
            ValueError: one out of its bounds, or see `TrainConfig`.
        """
        super().__post_init__()
        if self.preset == "custom" and self.bundle is None:
            raise ValueError(
                "bundle: got none, allowed with the preset custom is a bundle's folder"
            )
        _ = self.training

    @property
    def fixed(self) -> dict[str, Any]:
        """Options of nat-train that no trial varies and that are not the preset's."""
        bundle = self.bundle or PRESETS[self.preset][1].bundle
        return {"algo": self.algo, "num_steps": self.num_steps, "bundle": bundle}

    @property
    def training(self) -> TrainConfig:
        """What the trials vary."""
        preset = PRESETS[self.preset][1]
        return replace(
            preset, out=self.out, budget=self.budget or preset.budget // 2,
            eval_every=self.eval_every, seed=self.seed, threads=self.threads, device=self.device,
            **self.fixed,
        )  # fmt: skip
