"""A round of PPO, split into its phases, and stable-baselines3's own PPO beside it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents.config import PRESETS, TrainConfig
from agents.train import Training
from eval.bench.memory import peak_memory
from eval.bench.operations import operation_shares
from eval.bench.report import Row, Section
from eval.bench.timing import Phases, Spread, interleaved

LEARNERS = ("nat-train's PPO", "stock PPO, MultiInputPolicy", "stock PPO, pooled features")
PHASES = ("nat", "tokenizer", "rollout", "policy", "discriminator")
"""The first two are parts of a rollout, the third is what is left of it."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of the part `train`."""

    preset: str = "fashion"
    """Of nat-train; all else is its configuration's."""
    trajectories_per_round: int | None = None
    """In place of the preset's."""


class _UpdatesDiscriminator(BaseCallback):
    """What `RoundCallback` does between rollouts, without its evaluations and checkpoints."""

    def __init__(self, update: Callable[[], Any]) -> None:
        super().__init__()
        self.update = update

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.update()


class Rounds:
    """A learner that trains round after round."""

    def __init__(self, learner: str, config: TrainConfig) -> None:
        """Set one of `LEARNERS` up in the new folder `config.out`."""
        pooled = learner == LEARNERS[2]
        if pooled:
            options: dict[str, int | float | str] = {"n_epochs": config.epochs}
            config = replace(config, algo="stock-ppo", algo_options=options)
        training = Training(config, progress=False)
        self.config = config
        self.timesteps = config.trajectories_per_round * config.num_steps
        self.env: Any = training.env
        self.model: Any = training.model
        if learner == LEARNERS[1]:
            self.model = stable_baselines3.PPO(
                "MultiInputPolicy",
                training.model.get_env(),  # type: ignore[arg-type]
                n_steps=self.timesteps // config.environments,
                batch_size=config.batch_size,
                n_epochs=config.epochs,
                device=config.device,
            )

    def run(self, phases: Phases) -> None:
        """One round."""
        bundle = self.env.decoder.bundle
        watched = [
            ("nat", bundle.nat.transformer, "forward"),
            ("tokenizer", bundle.tokenizer, "decode"),
            ("rollout", self.model, "collect_rollouts"),
            ("policy", self.model, "train"),
            ("discriminator", self.env, "update"),
        ]
        with ExitStack() as stack:
            for phase, owner, name in watched:
                wrapped = phases.timed(phase, getattr(owner, name))
                stack.enter_context(patch.object(owner, name, wrapped))
            updates = self.config.discriminator_updates
            callback = _UpdatesDiscriminator(lambda: self.env.update(updates))
            self.model.learn(self.timesteps, callback, log_interval=None, reset_num_timesteps=False)


def run(options: TrainOptions, repeats: int) -> list[Section]:
    """Measure.

    Raises:
        ValueError: an unknown preset, or a number that is not allowed.
    """
    config = configuration(options)
    with TemporaryDirectory() as folder:
        learners = {n: Rounds(n, replace(config, out=Path(folder) / n)) for n in LEARNERS}
        kept: dict[str, list[Phases]] = {name: [] for name in LEARNERS}

        def timed(name: str) -> Callable[[], None]:
            def a_round() -> None:
                kept[name].append(Phases())
                learners[name].run(kept[name][-1])

            return a_round

        seconds = interleaved({name: timed(name) for name in LEARNERS}, repeats)
        shares = {name: operation_shares(rounds.model.train) for name, rounds in learners.items()}
    rows = [_row(n, config, seconds[n], kept[n][-repeats:]) for n in LEARNERS]
    note = (
        f"Preset {options.preset}: T = {config.num_steps}, {config.trajectories_per_round} images "
        f"and {config.discriminator_updates} discriminator updates a round, {config.epochs} epochs "
        f"in batches of {config.batch_size}; no evaluations, no checkpoints. Stock: "
        "stable-baselines3's PPO with its own networks and rollout buffer, on the same environment "
        "and reward. Seconds of a round; outside: of NAT and tokenizer; update: the policy's. "
        "Peak: resident memory in a process of its own."
    )
    spent = [{"learner": name, **of} for name, of in shares.items()]
    about = "Seconds of torch's operations, by its profiler, in one update of the policy."
    return [Section("Training", rows, note), Section("Where the update's time goes", spent, about)]


def configuration(options: TrainOptions) -> TrainConfig:
    """The preset without warm-up, as every round is to be one of learning.

    Raises:
        ValueError: see `run`.
    """
    if options.preset not in PRESETS:
        raise ValueError(f"preset: got {options.preset!r}, allowed are {list(PRESETS)}")
    config = replace(PRESETS[options.preset][1], warmup_rounds=0, threads=torch.get_num_threads())
    if options.trajectories_per_round is None:
        return config
    count = options.trajectories_per_round
    batch_size = min(config.batch_size, count * config.num_steps)
    return replace(config, trajectories_per_round=count, num_envs=count, batch_size=batch_size)


def _row(name: str, config: TrainConfig, seconds: list[float], phases: list[Phases]) -> Row:
    rollouts = [sum(p.seconds[phase] for phase in PHASES[:3]) for p in phases]
    split = {"rollout_seconds": Spread.of(rollouts)}
    split |= {
        f"{phase}_seconds": Spread.of([p.seconds[phase] for p in phases]) for phase in PHASES[3:]
    }
    outside = [p.seconds["rollout"] / s for p, s in zip(phases, rollouts, strict=True)]
    update = [p.seconds["policy"] / s for p, s in zip(phases, rollouts, strict=True)]
    rest = [s - sum(p.seconds.values()) for s, p in zip(seconds, phases, strict=True)]
    images = [config.trajectories_per_round / s for s in seconds]
    memory = peak_memory(prepared, name, config)
    return {
        "learner": name,
        "images_per_second": Spread.of(images),
        **split,
        "rest_seconds": Spread.of(rest),
        "rollout_outside_share": Spread.of(outside).median,
        "update_to_rollout_share": Spread.of(update).median,
        "peak_mb": memory.peak,
        "above_start_mb": memory.rise,
    }


def prepared(learner: str, config: TrainConfig) -> Callable[[], None]:
    """A round, with its learner set up; for `peak_memory`."""
    folder = TemporaryDirectory()
    rounds = Rounds(learner, replace(config, out=Path(folder.name)))

    def a_round() -> None:
        with folder:
            rounds.run(Phases())

    return a_round
