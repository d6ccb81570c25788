"""From a configuration to a learner, and from what it has learned to a policy."""

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from agents.learners.algorithms import algorithm_of
from agents.learners.config import TrainConfig
from agents.learners.network import AdaNATNetwork
from agents.learners.policy import AdaNATPolicy, LearnedPolicy
from agents.learners.predicted import PredictedPolicy
from agents.learners.warmup import ARS, WaitsForReward
from nat_env.actions import ActionMap
from nat_env.bundles.bundle import Bundle
from nat_env.observations import ObservationForm

TrainedPolicy = LearnedPolicy | PredictedPolicy
"""What a training gives."""


def make_learner(config: TrainConfig, env: VecEnv, bundle: Bundle) -> BaseAlgorithm:
    """The learner that `config` names, on `env`.

    The mean of its policy starts at the residual schedule, and so do random samples of it around
    it; their expectation, which is what is evaluated, is near it only for a small deviation.

    Raises:
        ValueError: an option that it does not have, or one that does not fit.
    """
    algorithm = algorithm_of(config)
    options = algorithm.options(config)
    _check_algo_options(config)
    options |= config.algo_options
    learner: Any = algorithm.learner
    try:
        model = learner(
            env=env, policy=algorithm.policy, seed=config.seed, device=config.device, **options
        )
    except (TypeError, ValueError, AssertionError) as error:
        if not config.algo_options:
            raise
        raise ValueError(f"algo_options: got {dict(config.algo_options)} ({error})") from None
    assert isinstance(model, WaitsForReward)
    model.warmup_timesteps = config.policy_rests_for * config.num_steps
    if isinstance(model, OffPolicyAlgorithm):
        _start_at_zero(model, config.action_std / config.raw_scale)
    return model


def live_policy(config: TrainConfig, model: BaseAlgorithm, action_map: ActionMap) -> TrainedPolicy:
    """What `model` has learned so far, as it is used after training."""
    if isinstance(model.policy, AdaNATPolicy):
        std = model.policy.action_std
        return LearnedPolicy(
            model.policy.average.module, action_map, std, config.num_steps, config.test_action
        )
    return PredictedPolicy(model.policy, action_map, config.num_steps, config.test_action)


def untrained_policy(config: TrainConfig, bundle: Bundle, action_map: ActionMap) -> TrainedPolicy:
    """A policy to load what a training of `config` has saved.

    Raises:
        ValueError: see `algorithm_of`.
    """
    algorithm = algorithm_of(config)
    if algorithm.policy is AdaNATPolicy:
        actor = AdaNATNetwork(
            bundle.nat.feature_size, bundle.nat.feature_grid, 4, config.hidden_size, config.adaptive
        )
        actor = actor.to(bundle.device)
        return LearnedPolicy(
            actor, action_map, config.action_std, config.num_steps, config.test_action
        )
    assert isinstance(algorithm.policy, str)
    space = ObservationForm.named(algorithm.observation, bundle, config.num_steps).space
    box = spaces.Box(-1, 1, (4,), np.float32)
    of_policy: dict[str, Any] = algorithm.options(config).get("policy_kwargs", {})
    policy_class = algorithm.learner.policy_aliases[algorithm.policy]
    rate = () if algorithm.learner is ARS else (lambda _: 0.0,)
    policy = policy_class(space, box, *rate, **of_policy).to(bundle.device)
    return PredictedPolicy(policy, action_map, config.num_steps, config.test_action)


_OF_THE_ROUND = frozenset(
    {
        "n_steps", "train_freq", "learning_starts", "n_delta", "n_eval_episodes",
        "gamma", "gae_lambda", "policy_kwargs", "use_sde", "rollout_buffer_kwargs",
    }
)  # fmt: skip
"""Options that the environment, the discriminator's rhythm, resuming or loading depend on."""


def _check_algo_options(config: TrainConfig) -> None:
    fixed = sorted(_OF_THE_ROUND & config.algo_options.keys())
    if fixed:
        raise ValueError(
            f"algo_options: got {', '.join(fixed)}, which follow from the round: whole episodes "
            "without discount, see --num-steps, --num-envs and --trajectories-per-round"
        )


def _start_at_zero(model: OffPolicyAlgorithm, std: float) -> None:
    """Let an actor begin with the action 0, the residual schedule, and explore with `std`."""
    actor: Any = model.actor  # type: ignore[attr-defined]
    heads = [actor.mu if isinstance(actor.mu, nn.Linear) else actor.mu[-2]]
    if hasattr(actor, "log_std"):
        heads.append(actor.log_std)
    for head in heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    if hasattr(actor, "log_std"):
        nn.init.constant_(actor.log_std.bias, math.log(std))
    if hasattr(model, "actor_target"):
        model.actor_target.load_state_dict(actor.state_dict())  # type: ignore[attr-defined]
