"""From a configuration to a learner, and from what it has learned to a policy."""

import math
import warnings
from typing import Any

import numpy as np
import sb3_contrib
import stable_baselines3
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from agents.learners.algorithms import Algorithm, algorithm_of
from agents.learners.config import TrainConfig
from agents.learners.policy import AdaNATPolicy
from agents.learners.trained import LearnedPolicy, PredictedPolicy, TrainedPolicy
from agents.learners.warmup import WaitsForReward
from nat_env.actions import ActionMap
from nat_env.bundles.bundle import Bundle
from nat_env.commands.own_code import is_own, raised
from nat_env.episodes.observations import ObservationForm


def make_learner(config: TrainConfig, env: VecEnv, bundle: Bundle) -> BaseAlgorithm:
    """The learner that `config` names, on `env`.

    The mean of its policy starts at the residual schedule, and so do random samples of it around
    it; their expectation, which is what is evaluated, is near it only for a small deviation.

    Raises:
        ValueError: an option that it does not have, or one that does not fit.
    """
    _check_algo_options(config)
    algorithm, seed, device = algorithm_of(config), config.seed, config.device
    model = _constructed(config, algorithm, env=env, seed=seed, device=device)
    assert isinstance(model, WaitsForReward)
    model.warmup_timesteps = config.policy_rests_for * config.num_steps
    if isinstance(model, OffPolicyAlgorithm):
        _start_at_zero(model, config.action_std / config.raw_scale)
    return model


def live_policy(config: TrainConfig, model: BaseAlgorithm, action_map: ActionMap) -> TrainedPolicy:
    """What `model` has learned so far, as it is used after training."""
    return _decoding_policy(config, model.policy, action_map)


def untrained_policy(config: TrainConfig, bundle: Bundle, action_map: ActionMap) -> TrainedPolicy:
    """A policy to load what a training of `config` has saved.

    Raises:
        ValueError: see `algorithm_of`.
    """
    algorithm = algorithm_of(config)
    # As stable-baselines3 loads a model: options of the policy may be the constructor's.
    made: Any = _constructed(
        config, algorithm, env=None, device=bundle.device, _init_setup_model=False
    )
    kept = config.observation if algorithm.is_adanat else algorithm.observation
    form = ObservationForm.named(kept, bundle, config.num_steps)
    box = spaces.Box(-1, 1, (len(action_map.names),), np.float32)
    rate: Any = () if isinstance(made, sb3_contrib.ARS) else (lambda _: 0.0,)
    of_env: dict[str, Any] = {}
    if algorithm.is_adanat:
        of_env = {"grid": form.grid, "idle_at_last": action_map.idle_at_last}
        of_env |= {"map_size": action_map.map_size} if action_map.map_size else {}
    kind: Any = made.policy_class
    policy = kind(form.space, box, *rate, **made.policy_kwargs, **of_env)
    return _decoding_policy(config, policy.to(bundle.device), action_map)


def _constructed(config: TrainConfig, algorithm: Algorithm, **more: Any) -> Any:
    """What the learner's constructor makes of the configuration.

    Raises:
        ValueError: it refuses an option of `algo_options`, or is one's own and fails.
    """
    learner: Any = algorithm.learner
    options = algorithm.options(config) | config.algo_options
    try:
        with warnings.catch_warnings():
            # On an accelerator stable-baselines3 advises a CPU; what it learns from is there.
            warnings.filterwarnings("ignore", r"You are trying to run \w+ on the GPU", UserWarning)
            return learner(policy=algorithm.policy, **options, **more)
    except (Exception, SystemExit) as error:
        if is_own(config.algo):
            name = config.algo
            raise ValueError(f"algo: got {name!r}, which fails {raised(error)}") from error
        if config.algo_options and isinstance(error, TypeError | ValueError | AssertionError):
            given = dict(config.algo_options)
            raise ValueError(f"algo_options: got {given} ({error})") from None
        raise


def _decoding_policy(
    config: TrainConfig, policy: BasePolicy, action_map: ActionMap
) -> TrainedPolicy:
    """A policy as it is after training."""
    if not isinstance(policy, AdaNATPolicy):
        return PredictedPolicy(policy, action_map, config.num_steps, config.test_action)
    std, num_steps = policy.action_std, config.num_steps
    return LearnedPolicy(
        policy.actor, action_map, std, num_steps, config.test_action, config.observation
    )


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
    actor: Any = getattr(model, "actor", None)
    mu = getattr(actor, "mu", None)
    heads = [mu if isinstance(mu, nn.Linear) else mu[-2]] if mu is not None else []
    if hasattr(actor, "log_std"):
        heads.append(actor.log_std)
    for head in heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    if hasattr(actor, "log_std"):
        nn.init.constant_(actor.log_std.bias, math.log(std))
    if isinstance(model, stable_baselines3.TD3) and model.action_noise is None:
        deviations = np.full(model.action_space.shape or (), std)
        model.action_noise = NormalActionNoise(np.zeros_like(deviations), deviations)
    if hasattr(model, "actor_target"):
        model.actor_target.load_state_dict(actor.state_dict())  # type: ignore[attr-defined]
