"""Learners by name: this library's PPO, others of stable-baselines3 and sb3-contrib, one's own.

A new one is an entry of `ALGORITHMS`, and a name in the help of `TrainConfig.algo`. One's own is
such an entry, or a class, in a module anywhere, and is called `module:name`.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import sb3_contrib
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy

from agents.learners.config import PRESETS, TrainConfig, linear
from agents.learners.policy import AdaNATPolicy
from agents.learners.ppo import PPO
from agents.learners.warmup import ARS, WaitsForReward, waiting
from nat_env.commands.own_code import imported, is_own

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
    """`pooled`, or the `features` that `AdaNATPolicy` takes."""
    alone: str = "it does not say, by alone = '', that several can train it together"
    """Why one process alone can train it. Empty where several can: all that it learns, it learns by
    gradients of its policy, and it makes as many backward passes on each."""

    @property
    def is_adanat(self) -> bool:
        """Whether its policy is `AdaNATPolicy`, or a kind of it."""
        return isinstance(self.policy, type) and issubclass(self.policy, AdaNATPolicy)


def algorithm_of(config: TrainConfig) -> Algorithm:
    """The entry of `ALGORITHMS` that `config` names, or that its `module:name` stands for.

    Raises:
        ValueError: there is none, or the configuration asks of it what only `ppo` does.
    """
    algorithm = own_algorithm(config.algo) if is_own(config.algo) else ALGORITHMS[config.algo]
    if config.fresh_samples and not algorithm.is_adanat:
        raise ValueError(f"fresh_samples: got True, allowed with {config.algo} is False")
    if config.observation != "features" and not algorithm.is_adanat:
        raise ValueError(
            f"observation: got {config.observation!r}, allowed with {config.algo} is the default"
        )
    transitions = config.trajectories_per_round * config.num_steps
    if "batch_size" not in algorithm.refuses and config.batch_size > transitions:
        raise ValueError(
            f"batch_size: got {config.batch_size}, allowed is at most a round's {transitions} "
            "transitions"
        )
    # A configuration does not say which of its values were asked for: those of presets were not.
    asked_for = [
        [name for name in sorted(algorithm.refuses) if getattr(config, name) != getattr(p, name)]
        for _, p in PRESETS.values()
    ]
    for name in min(asked_for, key=len):
        raise ValueError(
            f"{name}: got {getattr(config, name)}, allowed with {config.algo} is the preset's, "
            "which it has no use for; its own options are given by --algo-options, such as "
            "learning_rate 3e-4"
        )
    return algorithm


def steps_of_a_round(config: TrainConfig) -> int:
    """Of each environment in a round: whole episodes."""
    return config.trajectories_per_round // config.environments * config.num_steps


def _adanat(config: TrainConfig) -> dict[str, Any]:
    return {
        "action_std": lambda left: config.action_std if left > 0.5 else config.final_action_std,
        "learning_rate": linear(config.learning_rate, config.final_learning_rate),
        "n_steps": steps_of_a_round(config),
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
        "n_steps": steps_of_a_round(config),
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
        "train_freq": (steps_of_a_round(config), "step"),
        "gradient_steps": max(1, config.epochs * transitions // config.batch_size),
        "batch_size": config.batch_size,
        "buffer_size": BUFFER_ROUNDS * transitions,
        "learning_starts": 0,
        "gamma": 1.0,
        "policy_kwargs": {"net_arch": [config.hidden_size] * 2},
    }


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
        "max_grad_norm", "accumulate", "rollout_folder", "group_size",
    }
)  # fmt: skip
_ON_POLICY_REFUSES = _PPO_ALONE | {"epochs"}
_A2C_REFUSES = _ON_POLICY_REFUSES | {"batch_size"}
_ARS_REFUSES = _A2C_REFUSES | {"hidden_size", "action_std"}

_REPLAY = "its replay buffer, from which it learns many times a round, belongs to one"


def _stock(
    about: str,
    learner: type[BaseAlgorithm],
    options: Callable[[TrainConfig], dict[str, Any]],
    refuses: frozenset[str],
    policy: str = "MlpPolicy",
    alone: str = "",
) -> Algorithm:
    """A learner as its library has it."""
    return Algorithm(about, waiting(learner), policy, options, refuses, alone=alone)


ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(
        "AdaNAT's PPO and network", PPO, AdaNATPolicy, _adanat, observation="features", alone=""
    ),
    "stock-ppo": _stock(
        "PPO as it comes", stable_baselines3.PPO, _with_batches, _ON_POLICY_REFUSES
    ),
    "a2c": _stock("A2C", stable_baselines3.A2C, _on_policy, _A2C_REFUSES),
    "trpo": _stock(
        "trust-region policy optimisation", sb3_contrib.TRPO, _with_batches, _ON_POLICY_REFUSES,
        alone="its parameters never hold the gradients that its step comes of",
    ),
    "recurrent-ppo": _stock(
        "PPO with an LSTM", sb3_contrib.RecurrentPPO, _recurrent, _ON_POLICY_REFUSES,
        "MlpLstmPolicy",
    ),
    "sac": _stock(
        "soft actor-critic", stable_baselines3.SAC, _off_policy, _PPO_ALONE, alone=_REPLAY
    ),
    "td3": _stock(
        "twin delayed deterministic policy gradient",
        stable_baselines3.TD3, _off_policy, _PPO_ALONE, alone=_REPLAY,
    ),
    "tqc": _stock(
        "truncated quantile critics", sb3_contrib.TQC, _off_policy, _PPO_ALONE, alone=_REPLAY
    ),
    "crossq": _stock(
        "CrossQ: batch normalisation, no target networks",
        sb3_contrib.CrossQ, _off_policy, _PPO_ALONE, alone=_REPLAY,
    ),
    "ars": Algorithm(
        "augmented random search, a linear policy", ARS, "LinearPolicy", _ars, _ARS_REFUSES,
        alone="it has no gradients to share",
    ),
}  # fmt: skip


def own_algorithm(name: str) -> Algorithm:
    """The learner that `module:name` stands for.

    That may be an `Algorithm`, or a class of stable-baselines3's kind: one that inherits from this
    library's `PPO` is set up as it is; another one as `stock-ppo`, `a2c`, `sac` or `td3` are,
    whichever it is like, with its "MlpPolicy". What a run has to keep of it, besides its networks
    and optimizers, it tells as stable-baselines3's learners do, by `_get_torch_save_params`; that
    several processes can train it, by a class attribute `alone = ""`, see `Algorithm.alone`.

    Raises:
        ValueError: a module that is not there or fails, or something else in it.
    """
    found = imported(name, "algo")
    if isinstance(found, Algorithm):
        return _checked(name, found)
    kinds = (OnPolicyAlgorithm, OffPolicyAlgorithm)
    if not (isinstance(found, type) and issubclass(found, kinds)) or inspect.isabstract(found):
        raise ValueError(
            f"algo: got {name!r}, which is {found!r}, allowed are an Algorithm of "
            "agents.learners.algorithms, and classes that inherit from stable-baselines3's "
            "OnPolicyAlgorithm or OffPolicyAlgorithm"
        )
    about = f"{found.__name__}, code of one's own"
    alone = getattr(found, "alone", Algorithm.alone)
    if issubclass(found, PPO):
        return replace(ALGORITHMS["ppo"], about=about, learner=found, alone=alone)
    if "MlpPolicy" not in found.policy_aliases:
        raise ValueError(
            f"algo: got {name!r}, which has no 'MlpPolicy' but {list(found.policy_aliases)}; "
            "allowed is an Algorithm of agents.learners.algorithms that says which it takes"
        )
    if issubclass(found, OffPolicyAlgorithm):
        like = "td3" if issubclass(found, stable_baselines3.TD3) else "sac"
    else:
        like = "stock-ppo" if _takes(found, "batch_size") else "a2c"
    kind = ALGORITHMS[like]
    return _stock(about, found, kind.options, kind.refuses, alone=alone)


def _checked(name: str, algorithm: Algorithm) -> Algorithm:
    """One's own, if its policy can be used after the training, and with what it needs for it."""
    if (algorithm.observation == "features") != algorithm.is_adanat:
        raise ValueError(
            f"algo: got {name!r} with observation={algorithm.observation!r} for "
            f"{algorithm.policy}, allowed is 'features' for AdaNATPolicy, else 'pooled'"
        )
    if issubclass(algorithm.learner, WaitsForReward):
        return algorithm
    return replace(algorithm, learner=waiting(algorithm.learner))


def _takes(learner: type[BaseAlgorithm], option: str) -> bool:
    """Whether a constructor has the option, or one that it may hand it on to."""
    made = [vars(base)["__init__"] for base in learner.__mro__ if "__init__" in vars(base)]
    return any(option in inspect.signature(each).parameters for each in made)
