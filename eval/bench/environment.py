"""Environment steps per second: as it is, in adapter and wrapper, and as single environments."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from agents.learners.vec_env import GymnasiumVecEnv
from eval.bench.report import Section
from eval.bench.timing import Spread, interleaved
from nat_env.bundles.bundle import load_bundle
from nat_env.vector_env import NATDecodeVectorEnv
from nat_env.wrappers.adversarial import AdversarialReward


@dataclass(frozen=True)
class EnvOptions:
    """Options of the part `env`."""

    bundle: str = "fashion"
    """A shipped bundle's name or a folder."""
    num_envs: int = 256
    num_steps: int = 4
    """T."""
    dtype: Literal["float32", "bfloat16", "auto"] = "auto"
    """Of the transformer."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: a number below 1.
        """
        for name in ("num_envs", "num_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed is >= 1")


def run(options: EnvOptions, repeats: int) -> list[Section]:
    """Measure.

    Raises:
        ValueError: an unknown bundle, or a number that is not allowed.
    """
    actions = _actions(options)
    contestants = {
        "NATDecodeVectorEnv": _episode(_vector(options), actions),
        "with the SB3 adapter": _episode(
            GymnasiumVecEnv(_vector(options), copy_observations=False), actions
        ),
        "with AdversarialReward": _episode(AdversarialReward(_vector(options)), actions),
        "SyncVectorEnv of NATDecode-v0": _episode(_single_ones(options), actions),
    }
    seconds = interleaved(contestants, repeats)
    sync = seconds["SyncVectorEnv of NATDecode-v0"]
    steps = options.num_envs * options.num_steps
    rows = [
        {
            "environment": name,
            "steps_per_second": Spread.of([steps / s for s in own]),
            "ratio": Spread.of([theirs / s for theirs, s in zip(sync, own, strict=True)]),
        }
        for name, own in seconds.items()
    ]
    note = (
        f"Bundle {options.bundle}, T = {options.num_steps}, {options.num_envs} environments, whole "
        "episodes of random actions, automatic resets in the same step. Ratio: against gymnasium's "
        "SyncVectorEnv of single environments, repeat by repeat."
    )
    return [Section("Environment", rows, note)]


def prepared(options: EnvOptions) -> Callable[[], None]:
    """Making the vector environment and an episode in it, with the bundle loaded."""
    _ = load_bundle(options.bundle, options.dtype).tokenizer
    return lambda: _episode(_vector(options), _actions(options))()


def _actions(options: EnvOptions) -> np.ndarray:
    """The same random ones for all, [T, B, 4]."""
    generator = np.random.Generator(np.random.PCG64(0))
    shape = (options.num_steps, options.num_envs, 4)
    return generator.uniform(-1, 1, shape).astype(np.float32)


def _vector(options: EnvOptions) -> NATDecodeVectorEnv:
    return NATDecodeVectorEnv(
        options.num_envs, options.bundle, options.num_steps, dtype=options.dtype
    )


def _single_ones(options: EnvOptions) -> Any:
    return gym.make_vec(
        "NATDecode-v0",
        num_envs=options.num_envs,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        bundle=options.bundle,
        num_steps=options.num_steps,
        dtype=options.dtype,
    )


def _episode(env: Any, actions: np.ndarray) -> Callable[[], None]:
    """An episode in every sub-environment, with the actions [T, B, 4]."""
    env.reset()

    def steps() -> None:
        for action in actions:
            env.step(action)

    return steps
