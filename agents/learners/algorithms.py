"""Learners by name: this library's PPO, and others of stable-baselines3 and sb3-contrib.

A new one is an entry of `ALGORITHMS`, and a name in the help of `TrainConfig.algo`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sb3_contrib
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.policies import BasePolicy

from agents.learners.config import PRESETS, TrainConfig, linear
from agents.learners.policy import AdaNATPolicy
from agents.learners.ppo import PPO
from agents.learners.warmup import ARS, waiting

BUFFER_ROUNDS = 10
"""Rounds that a replay buffer holds: older rewards are those of another discriminator."""


@dataclass(frozen=True)
class Algorithm:
    """A learner, the observations that it takes, and its options for a training."""

    about: str
    learner: type[BaseAlgorithm]
    policy: str | type[BasePolicy]
    options: Callable[[TrainConfig], dict[str, Any]]
    """Of the learner's constructor; `TrainConfig.algo_options` come after them."""
    refuses: frozenset[str] = frozenset()
    """Options of a `TrainConfig` that the learner has no use for."""
    observation: str = "pooled"


def algorithm_of(config: TrainConfig) -> Algorithm:
    """The entry of `ALGORITHMS` that `config` names.

    Raises:
        ValueError: there is none, or the configuration asks of it what only `ppo` does.
    """
    if config.algo not in ALGORITHMS:
        raise ValueError(f"algo: got {config.algo!r}, allowed are {list(ALGORITHMS)}")
    if config.algo != "ppo" and config.fresh_samples:
        raise ValueError(f"fresh_samples: got True, allowed with {config.algo} is False")
    algorithm = ALGORITHMS[config.algo]
    transitions = config.trajectories_per_round * config.num_steps
    if "batch_size" not in algorithm.refuses and config.batch_size > transitions:
        raise ValueError(
            f"batch_size: got {config.batch_size}, allowed is at most a round's {transitions} "
            "transitions"
        )
    # A configuration does not say which of its values were asked for: those of presets were not.
    for name in sorted(algorithm.refuses):
        value, of_presets = getattr(config, name), [getattr(p, name) for _, p in PRESETS.values()]
        if value not in of_presets:
            raise ValueError(
                f"{name}: got {value}, allowed with {config.algo} is the preset's, which it has no "
                "use for; its own options are given by --algo-options, such as learning_rate 3e-4"
            )
    return algorithm


def _steps(config: TrainConfig) -> int:
    """Of each environment in a round: whole episodes."""
    return config.trajectories_per_round // config.environments * config.num_steps


def _adanat(config: TrainConfig) -> dict[str, Any]:
    return {
        "action_std": lambda left: config.action_std if left > 0.5 else config.final_action_std,
        "learning_rate": linear(config.learning_rate, config.final_learning_rate),
        "n_steps": _steps(config),
        "rollout_buffer_kwargs": {"folder": config.rollout_folder},
        "batch_size": config.batch_size,
        "n_epochs": config.epochs,
        "clip_range": config.clip_range,
        "ent_coef": config.entropy_coefficient,
        "vf_coef": config.value_coefficient,
        "max_grad_norm": config.max_grad_norm,
        "accumulate": config.accumulate,
        "discriminator_updates": 0,  # by the training's callback
        "policy_kwargs": {
            "hidden_size": config.hidden_size,
            "action_std": config.action_std,
            "adaptive": config.adaptive,
            "shared_noise": config.shared_noise,
            "raw_scale": config.raw_scale,
        },
    }


def _on_policy(config: TrainConfig) -> dict[str, Any]:
    """A rollout of whole episodes and no discount; all else is the library's default."""
    return {
        "n_steps": _steps(config),
        "gamma": 1.0,
        "gae_lambda": 1.0,
        "policy_kwargs": {
            "net_arch": [config.hidden_size] * 2,
            "log_std_init": math.log(config.action_std / config.raw_scale),
        },
    }


def _with_batches(config: TrainConfig) -> dict[str, Any]:
    return _on_policy(config) | {"batch_size": config.batch_size}


def _recurrent(config: TrainConfig) -> dict[str, Any]:
    options = _with_batches(config)
    options["policy_kwargs"] |= {"net_arch": [], "lstm_hidden_size": config.hidden_size}
    return options


def _off_policy(config: TrainConfig) -> dict[str, Any]:
    """After each round as many gradient steps as PPO takes."""
    transitions = config.trajectories_per_round * config.num_steps
    return {
        "train_freq": (_steps(config), "step"),
        "gradient_steps": max(1, config.epochs * transitions // config.batch_size),
        "batch_size": config.batch_size,
        "buffer_size": BUFFER_ROUNDS * transitions,
        "learning_starts": 0,
        "gamma": 1.0,
        "policy_kwargs": {"net_arch": [config.hidden_size] * 2},
    }


def _td3(config: TrainConfig) -> dict[str, Any]:
    noise = np.full(4, config.action_std / config.raw_scale)
    return _off_policy(config) | {"action_noise": NormalActionNoise(np.zeros(4), noise)}


def _ars(config: TrainConfig) -> dict[str, Any]:
    """A round evaluates each of 2 n_delta candidates on `num_envs` episodes.

    Raises:
        ValueError: a round has no two batches of episodes.
    """
    candidates = config.trajectories_per_round // config.environments
    if candidates < 2 or candidates % 2:
        raise ValueError(
            f"num_envs: got {config.environments}, allowed with ars are those that fit an even "
            f"number of times in trajectories_per_round = {config.trajectories_per_round}: each "
            "candidate policy decodes num_envs images"
        )
    return {
        "n_delta": candidates // 2,
        "n_eval_episodes": config.environments,
        "delta_std": 0.01,
        "learning_rate": 0.01,
    }


_PPO_ALONE = frozenset(
    {
        "adaptive", "shared_noise", "learning_rate", "final_learning_rate",
        "final_action_std", "clip_range", "value_coefficient", "entropy_coefficient",
        "max_grad_norm", "accumulate", "rollout_folder",
    }
)  # fmt: skip
_ON_POLICY_REFUSES = _PPO_ALONE | {"epochs"}
_A2C_REFUSES = _ON_POLICY_REFUSES | {"batch_size"}
_ARS_REFUSES = _A2C_REFUSES | {"hidden_size", "action_std"}


def _stock(
    about: str,
    learner: type[BaseAlgorithm],
    options: Callable[[TrainConfig], dict[str, Any]],
    refuses: frozenset[str],
    policy: str = "MlpPolicy",
) -> Algorithm:
    """A learner as its library has it."""
    return Algorithm(about, waiting(learner), policy, options, refuses)


ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(
        "AdaNAT's PPO and network", PPO, AdaNATPolicy, _adanat, observation="features"
    ),
    "stock-ppo": _stock(
        "PPO as it comes", stable_baselines3.PPO, _with_batches, _ON_POLICY_REFUSES
    ),
    "a2c": _stock("A2C", stable_baselines3.A2C, _on_policy, _A2C_REFUSES),
    "trpo": _stock(
        "trust-region policy optimisation", sb3_contrib.TRPO, _with_batches, _ON_POLICY_REFUSES
    ),
    "recurrent-ppo": _stock(
        "PPO with an LSTM", sb3_contrib.RecurrentPPO, _recurrent, _ON_POLICY_REFUSES,
        "MlpLstmPolicy",
    ),
    "sac": _stock("soft actor-critic", stable_baselines3.SAC, _off_policy, _PPO_ALONE),
    "td3": _stock(
        "twin delayed deterministic policy gradient", stable_baselines3.TD3, _td3, _PPO_ALONE
    ),
    "tqc": _stock("truncated quantile critics", sb3_contrib.TQC, _off_policy, _PPO_ALONE),
    "crossq": _stock(
        "CrossQ: batch normalisation, no target networks",
        sb3_contrib.CrossQ, _off_policy, _PPO_ALONE,
    ),
    "ars": Algorithm(
        "augmented random search, a linear policy", ARS, "LinearPolicy", _ars, _ARS_REFUSES
    ),
}  # fmt: skip
