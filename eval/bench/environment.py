"""Environment steps per second: as it is, in the adapter, and as single environments."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from agents.learners.vec_env import GymnasiumVecEnv
from eval.bench.measuring.report import Row, Section, target
from eval.bench.measuring.timing import by_turns
from eval.bench.options import EnvOptions
from nat_env.bundles.loading import load_bundle
from nat_env.vector_env import NATDecodeVectorEnv

OURS = "NATDecodeVectorEnv"
SYNC = "SyncVectorEnv of NATDecode-v0"


def run(options: EnvOptions, repeats: int) -> list[Section]:
    """Measure; an unknown bundle is a ValueError."""
    single_ones = gym.make_vec(
        "NATDecode-v0",
        num_envs=options.num_envs,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        bundle=options.bundle,
        num_steps=options.num_steps,
        dtype=options.dtype,
        device=options.device,
    )
    environments = {
        OURS: _vector(options),
        "with the SB3 adapter": GymnasiumVecEnv(_vector(options), copy_observations=False),
        SYNC: single_ones,
    }
    episodes = {name: partial(_episode, env, options) for name, env in environments.items()}
    seconds = by_turns(episodes, repeats)
    rows = [
        {
            "environment": name,
            "seconds": own,
            "steps_per_second": options.num_envs * options.num_steps / own.median,
            "ratio": seconds[SYNC].median / own.median,
        }
        for name, own in seconds.items()
    ]
    note = (
        f"Bundle {options.bundle}, T = {options.num_steps}, {options.num_envs} environments, a "
        "reset and an episode of random actions in each. Ratio: against gymnasium's SyncVectorEnv."
    )
    return [Section("Environment", rows, note, targets(rows))]


def targets(rows: Sequence[Row]) -> list[Row]:
    """What is held against a limit."""
    return [target(f"{OURS}, times SyncVectorEnv", rows[0]["ratio"], at_least=20)]


def prepared(options: EnvOptions) -> Callable[[], None]:
    """Making the vector environment and an episode in it, with the bundle loaded."""
    _ = load_bundle(options.bundle, options.dtype, options.device).tokenizer
    return lambda: _episode(_vector(options), options)


def _vector(options: EnvOptions) -> NATDecodeVectorEnv:
    return NATDecodeVectorEnv(
        options.num_envs,
        options.bundle,
        options.num_steps,
        dtype=options.dtype,
        device=options.device,
    )


def _episode(env: Any, options: EnvOptions) -> None:
    """An episode in every sub-environment, of the same random actions for all environments.

    They leave half of the tokens masked or more, so that no episode ends before step T.
    """
    generator = np.random.Generator(np.random.PCG64(0))
    actions = generator.uniform(-1, 1, (options.num_steps, options.num_envs, 4))
    actions[..., 0] = np.abs(actions[..., 0])
    env.reset()
    for action in actions.astype(np.float32):
        env.step(action)
