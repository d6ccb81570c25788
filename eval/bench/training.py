"""A round of PPO, split into its phases, and stable-baselines3's own PPO beside it."""

import shutil
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch

import torch

from agents.learners.config import PRESETS, TrainConfig
from agents.training.train import Training
from eval.bench.measuring.memory import peak_memory
from eval.bench.measuring.phases import Phases
from eval.bench.measuring.report import Row, Section, target
from eval.bench.measuring.timing import by_turns
from eval.bench.options import TrainOptions
from nat_env import canvases

LEARNERS = ("ppo", "stock-ppo")
ROLLOUT = ("nat", "tokenizer", "transition", "policy", "reward", "rest")
"""Phases of a rollout, of which the last is what is left."""
PHASES = (*ROLLOUT, "update", "discriminator")


class Rounds:
    """A learner that trains round after round."""

    def __init__(self, config: TrainConfig) -> None:
        """Set the learner of `config` up, in a folder of its own that goes with it."""
        folder = Path(mkdtemp())
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.config = replace(config, out=folder / "run")
        training = Training(self.config, progress=False)
        self.env: Any = training.env
        self.model: Any = training.model

    def run(self, phases: Phases) -> None:
        """One round, without evaluations and checkpoints."""
        config, decoder, model = self.config, self.env.decoder, self.model
        in_a_rollout = (
            ("nat", decoder.bundle.nat, "_network"),  # compiled, or not
            ("tokenizer", decoder.bundle.tokenizer, "decode"),
            ("transition", canvases, "decode_step"),
            ("transition", canvases, "draw_uniforms"),
            ("policy", model.policy, "forward"),
            ("policy", model.policy, "predict_values"),
            ("reward", type(self.env.model), "__call__"),
            ("reward", decoder, "reward_fn"),
        )
        collect = phases.of("rest", model.collect_rollouts)

        def rollout(*args: Any, **kwargs: Any) -> Any:  # elsewhere the same models are none of it
            with phases.watching(*in_a_rollout):
                return collect(*args, **kwargs)

        timesteps = config.trajectories_per_round * config.num_steps
        with (
            patch.object(model, "collect_rollouts", rollout),
            phases.watching(("update", model, "train")),
        ):
            model.learn(timesteps, log_interval=None, reset_num_timesteps=False)
        phases.of("discriminator", self.env.update)(config.discriminator_updates)


def run(options: TrainOptions, repeats: int) -> list[Section]:
    """Measure; see `configuration` for what is refused."""
    config = configuration(options)
    configs = {learner: of_learner(config, learner) for learner in LEARNERS}
    rounds = {name: Rounds(config) for name, config in configs.items()}
    for learner in rounds.values():
        learner.run(Phases())  # makes what is made once
    phases = {name: Phases.on(options.device) for name in LEARNERS}
    seconds = by_turns({n: partial(rounds[n].run, phases[n]) for n in LEARNERS}, repeats)
    rows = []
    for name in LEARNERS:
        memory = peak_memory(prepared, configs[name])
        row = {
            "learner": name,
            "seconds": seconds[name],
            "images_per_second": config.trajectories_per_round / seconds[name].median,
            "peak_mb": memory.peak,
            "above_start_mb": memory.rise,
        }
        rows.append(row | phases[name].shares(*PHASES))
    note = (
        f"Preset {options.preset}: T = {config.num_steps}, {config.trajectories_per_round} images "
        f"and {config.discriminator_updates} discriminator updates a round, {config.epochs} epochs "
        f"in batches of {config.batch_size}; no evaluations, no checkpoints. Stock: "
        "stable-baselines3's PPO with its own network and buffer on pooled features, same reward. "
        "Peak: resident memory in a process of its own. Shares are of a round. Transition: with "
        "its random numbers. Policy: actions and values. Reward: the discriminator's, and the "
        "environment's own. Rest: observations, adapter and buffer. Update: of the policy."
    )
    return [Section("Training", rows, note, targets(rows))]


def targets(rows: Sequence[Row]) -> list[Row]:
    """What is held against a limit: nat-train's own learner."""
    row = rows[0]
    rollout = sum(row[f"{phase}_share"] for phase in ROLLOUT)
    outside = 1 - (row["nat_share"] + row["tokenizer_share"]) / rollout
    name, update = row["learner"], row["update_share"] / rollout
    return [
        target(f"{name}: share of a rollout outside NAT and tokenizer", outside, at_most=0.15),
        target(f"{name}: update against rollout", update, at_most=0.15),
    ]


def configuration(options: TrainOptions) -> TrainConfig:
    """The preset without warm-up, as every round is to be one of learning.

    Raises:
        ValueError: an unknown preset, or numbers that do not divide one another.
    """
    allowed = [name for name, (_, preset) in PRESETS.items() if preset.bundle == name]
    if options.preset not in allowed:
        raise ValueError(
            f"preset: got {options.preset!r}, allowed are {allowed}: those of shipped bundles"
        )
    config = replace(
        PRESETS[options.preset][1],
        warmup_rounds=0,
        threads=torch.get_num_threads(),
        device=options.device,
        tf32=options.tf32,
        decoder_dtype=options.decoder_dtype,
        compiled=options.compiled,
    )
    if options.trajectories_per_round is None:
        return config
    count = options.trajectories_per_round
    return replace(
        config,
        trajectories_per_round=count,
        num_envs=options.num_envs or count,
        batch_size=min(config.batch_size, count * config.num_steps),
    )


def of_learner(config: TrainConfig, learner: str) -> TrainConfig:
    """The same round for one of `LEARNERS`."""
    epochs = {} if learner == "ppo" else {"n_epochs": config.epochs}
    return replace(config, algo=learner, algo_options=epochs)


def prepared(config: TrainConfig) -> Callable[[], None]:
    """A round, with its learner set up."""
    return partial(Rounds(config).run, Phases())
