"""A round of PPO, split into its phases, and stable-baselines3's own PPO beside it."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback

from agents.learners.config import PRESETS, TrainConfig
from agents.learners.ppo import PPO
from agents.training.train import Training
from eval.bench.memory import peak_memory
from eval.bench.operations import operation_shares
from eval.bench.report import Row, Section
from eval.bench.timing import Phases, Spread, interleaved
from nat_env import vector_env

DEFAULT_BUFFER = "AdaNATPolicy, default buffer"
MULTI_INPUT = "stock PPO, MultiInputPolicy"
POOLED = "stock PPO, pooled features"
LEARNERS = ("nat-train's PPO", DEFAULT_BUFFER, MULTI_INPUT, POOLED)
ROLLOUT = ("nat", "tokenizer", "transition", "policy", "reward", "rest")
"""Phases of a rollout, of which the last is what is left; `update` and `discriminator` are the
other two of a round."""

Watched = tuple[str, Any, str]
"""A phase, and whose method or function by which name belongs to it."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of the part `train`."""

    preset: str = "fashion"
    """Of nat-train; all else is its configuration's."""
    trajectories_per_round: int | None = None
    """In place of the preset's."""


class _AtRollouts(BaseCallback):
    """Calls one function where a rollout starts and another where it has ended."""

    def __init__(self, start: Callable[[], Any], end: Callable[[], Any]) -> None:
        super().__init__()
        self.start, self.end = start, end

    def _on_rollout_start(self) -> None:
        self.start()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.end()


class Rounds:
    """A learner that trains round after round."""

    def __init__(self, learner: str, config: TrainConfig) -> None:
        """Set one of `LEARNERS` up in the new folder `config.out`."""
        if learner == POOLED:
            options: dict[str, int | float | str] = {"n_epochs": config.epochs}
            config = replace(config, algo="stock-ppo", algo_options=options)
        training = Training(config, progress=False)
        self.config = config
        self.timesteps = config.trajectories_per_round * config.num_steps
        self.env: Any = training.env
        self.model: Any = training.model
        if learner == DEFAULT_BUFFER:
            self.model.rollout_buffer = default_buffer(self.model)
        if learner == MULTI_INPUT:
            self.model = stable_baselines3.PPO(
                "MultiInputPolicy",
                self.model.get_env(),
                n_steps=self.timesteps // config.environments,
                batch_size=config.batch_size,
                n_epochs=config.epochs,
                device=config.device,
            )

    def run(self, phases: Phases) -> None:
        """One round, as `RoundCallback` has it, without its evaluations and checkpoints."""
        decoder, policy = self.env.decoder, self.model.policy
        in_a_round = [
            ("rest", self.model, "collect_rollouts"),
            ("update", self.model, "train"),
            ("discriminator", self.env, "update"),
        ]
        in_a_rollout = [
            ("nat", decoder.bundle.nat.transformer, "forward"),
            ("tokenizer", decoder.bundle.tokenizer, "decode"),
            ("transition", vector_env, "decode_step"),
            ("transition", vector_env, "draw_uniforms"),
            ("policy", policy, "forward"),
            ("policy", policy, "predict_values"),
            ("reward", type(self.env.model), "__call__"),
            ("reward", decoder, "reward_fn"),
        ]
        with ExitStack() as the_round, ExitStack() as rollout:

            def rollout_ends() -> None:  # what uses the same models from here on is none of it
                rollout.close()
                self.env.update(self.config.discriminator_updates)

            _watch(the_round, phases, in_a_round)
            callback = _AtRollouts(lambda: _watch(rollout, phases, in_a_rollout), rollout_ends)
            self.model.learn(self.timesteps, callback, log_interval=None, reset_num_timesteps=False)


def default_buffer(model: PPO) -> DictRolloutBuffer:
    """Stable-baselines3's own for `model`, in place of its `EpisodeRolloutBuffer`."""
    assert isinstance(model.observation_space, spaces.Dict)
    return DictRolloutBuffer(
        model.n_steps,
        model.observation_space,
        model.action_space,
        model.device,
        gamma=1.0,
        n_envs=model.n_envs,
    )


def _watch(stack: ExitStack, phases: Phases, watched: Sequence[Watched]) -> None:
    """Until `stack` is closed, add the seconds of what is watched to its phases."""
    for phase, owner, name in watched:
        wrapped = phases.timed(phase, getattr(owner, name))
        stack.enter_context(patch.object(owner, name, wrapped))


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
    measured = {name: phases[-repeats:] for name, phases in kept.items()}
    rows = [_row(n, config, seconds[n], measured[n]) for n in LEARNERS]
    note = (
        f"Preset {options.preset}: T = {config.num_steps}, {config.trajectories_per_round} images "
        f"and {config.discriminator_updates} discriminator updates a round, {config.epochs} epochs "
        f"in batches of {config.batch_size}; no evaluations, no checkpoints. Stock: "
        "stable-baselines3's PPO with its own networks and rollout buffer, on the same environment "
        f"and reward; {DEFAULT_BUFFER}: nat-train's with that buffer, which keeps features in "
        "float32. Seconds of a round; outside: of NAT and tokenizer; update: the policy's. Peak: "
        "resident memory in a process of its own."
    )
    parts = [{"learner": name} | _median_shares(measured[name]) for name in LEARNERS]
    about_parts = (
        "Medians. Transition: with its random numbers. Policy: actions and values. Reward: the "
        "discriminator's, and the environment's own, which is reported beside it. Rest: "
        "observations, the adapter, the buffer."
    )
    spent = [{"learner": name, **of} for name, of in shares.items()]
    about = "Seconds of torch's operations, by its profiler, in one update of the policy."
    return [
        Section("Training", rows, note),
        Section("Where the update's time goes", spent, about),
        Section("Where the rollout's time goes", parts, about_parts),
    ]


def configuration(options: TrainOptions) -> TrainConfig:
    """The preset without warm-up, as every round is to be one of learning.

    Raises:
        ValueError: see `run`.
    """
    allowed = [name for name, (_, preset) in PRESETS.items() if not preset.fresh_samples]
    if options.preset not in allowed:
        raise ValueError(
            f"preset: got {options.preset!r}, allowed are {allowed}: those without fresh_samples, "
            "which stock learners have none of"
        )
    config = replace(PRESETS[options.preset][1], warmup_rounds=0, threads=torch.get_num_threads())
    if options.trajectories_per_round is None:
        return config
    count = options.trajectories_per_round
    batch_size = min(config.batch_size, count * config.num_steps)
    return replace(config, trajectories_per_round=count, num_envs=count, batch_size=batch_size)


def _row(name: str, config: TrainConfig, seconds: list[float], phases: list[Phases]) -> Row:
    rollouts = [sum(p.seconds[part] for part in ROLLOUT) for p in phases]
    outside = [1 - s["nat"] - s["tokenizer"] for s in map(_rollout_shares, phases)]
    update = [p.seconds["update"] for p in phases]
    ratios = [u / r for u, r in zip(update, rollouts, strict=True)]
    rest = [s - sum(p.seconds.values()) for s, p in zip(seconds, phases, strict=True)]
    images = [config.trajectories_per_round / s for s in seconds]
    memory = peak_memory(prepared, name, config)
    return {
        "learner": name,
        "images_per_second": Spread.of(images),
        "rollout_seconds": Spread.of(rollouts),
        "policy_seconds": Spread.of(update),
        "discriminator_seconds": Spread.of([p.seconds["discriminator"] for p in phases]),
        "rest_seconds": Spread.of(rest),
        "rollout_outside_share": Spread.of(outside).median,
        "update_to_rollout_share": Spread.of(ratios).median,
        "peak_mb": memory.peak,
        "above_start_mb": memory.rise,
    }


def _rollout_shares(phases: Phases) -> dict[str, float]:
    seconds = {name: phases.seconds[name] for name in ROLLOUT}
    return {name: part / sum(seconds.values()) for name, part in seconds.items()}


def _median_shares(phases: list[Phases]) -> Row:
    shares = [_rollout_shares(p) for p in phases]
    return {f"{name}_share": Spread.of([s[name] for s in shares]).median for name in ROLLOUT}


def prepared(learner: str, config: TrainConfig) -> Callable[[], None]:
    """A round, with its learner set up; for `peak_memory`."""
    folder = TemporaryDirectory()
    rounds = Rounds(learner, replace(config, out=Path(folder.name)))

    def a_round() -> None:
        with folder:
            rounds.run(Phases())

    return a_round
