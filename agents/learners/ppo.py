"""AdaNAT's PPO: stable-baselines3's, with the paper's returns and exploration schedule."""

import math
from collections.abc import Callable
from typing import Any, Self

import stable_baselines3
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_wrapper

from agents.learners.buffers import EpisodeRolloutBuffer
from agents.learners.config import TrainConfig, linear
from agents.learners.optimizer import AccumulatingAdam
from agents.learners.policy import AdaNATPolicy, check_observation_space
from agents.learners.trained import LearnedPolicy
from agents.learners.vec_env import GymnasiumVecEnv
from agents.learners.warmup import DiscriminatorUpdates, WaitsForReward
from nat_env.episodes.ring import FeatureRing
from nat_env.seeds import TRAINING

LEARNING_RATE = linear(TrainConfig.learning_rate, TrainConfig.final_learning_rate)
"""By the share of training that remains."""


def scheduled_action_std(remaining: float) -> float:
    """Sigma in raw units by the share of training that remains: narrower after half of it."""
    return TrainConfig.action_std if remaining > 0.5 else TrainConfig.final_action_std


class PPO(WaitsForReward, stable_baselines3.PPO):
    """PPO with a scheduled standard deviation and a policy that waits for its reward model.

    Rollouts are whole episodes, gamma = lambda = 1, advantages are normalised returns minus
    values (Eq. 11, 12). Defaults are those of `nat-train`; everything else is stable-baselines3's.

    Example:
        >>> from nat_env import AdversarialReward, NATDecodeVectorEnv
        >>> env = AdversarialReward(NATDecodeVectorEnv(256, "digits", 2, residual="heuristic"))
        >>> model = PPO(env, seed=0)  # .learn(total_timesteps=images * steps) trains it
        >>> model.n_steps, model.warmup_timesteps, model.policy.grid
        (2, 2560, (4, 4))
    """

    policy: AdaNATPolicy
    _left: tuple[Any, torch.Tensor | None] | None = None
    """The last observation of the latest rollout, and the conditions [num_envs] it is of."""

    def __init__(
        self,
        env: VecEnv | VectorEnv | None,
        policy: str | type[AdaNATPolicy] = AdaNATPolicy,
        learning_rate: float | Callable[[float], float] = LEARNING_RATE,
        n_steps: int | None = None,
        batch_size: int = TrainConfig.batch_size,
        n_epochs: int = TrainConfig.epochs,
        action_std: Callable[[float], float] = scheduled_action_std,
        warmup_timesteps: int | None = None,
        discriminator_updates: int = TrainConfig.discriminator_updates,
        accumulate: int = TrainConfig.accumulate,
        max_grad_norm: float = TrainConfig.max_grad_norm,
        policy_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Set up as stable-baselines3's PPO does.

        Args:
            env: of episodes of one length, for which a `NATDecodeVectorEnv` is made `aligned`;
                Gymnasium's vector environments are put into a `GymnasiumVecEnv`.
            policy: `AdaNATPolicy`.
            learning_rate: of the policy, a number or by the share of training that remains, 1 .. 0.
            n_steps: of each sub-environment in a rollout, whole episodes; by default those of 256
                images or, where there are more sub-environments, one of each.
            batch_size: transitions of a minibatch.
            n_epochs: passes over a rollout.
            action_std: sigma in raw units by the share of training that remains.
            warmup_timesteps: until then the policy rests while its reward model learns; by default
                5 rollouts where the environment has an `update`, as `AdversarialReward`.
            discriminator_updates: gradient steps by the environment's `update` after each rollout;
                0 where a callback of one's own makes them.
            accumulate: minibatches of an optimizer step: a large batch in the memory of a small
                one.
            max_grad_norm: the gradient is shortened to this length, an accumulated one as a whole.
            policy_kwargs: of the policy; `grid`, `raw_scale`, `idle_at_last` and `map_size` are
                the environment's by default.
            kwargs: of stable-baselines3's PPO.

        Raises:
            ValueError: a discount, observations of another form or a normalised timestep, a grid
                that is not the environment's, or minibatches that do not fill optimizer steps.
        """
        for name in ("gamma", "gae_lambda"):
            if kwargs.pop(name, 1.0) != 1.0:
                raise ValueError(f"{name}: allowed is 1: a return is an episode's (Eq. 11)")
        if env is not None and not isinstance(env, VecEnv | VectorEnv):
            raise ValueError(
                f"env: got {env!r}, allowed is a vector environment of Gymnasium or "
                "stable-baselines3; it comes before the policy"
            )
        env = None if env is None else self._wrap_env(env)
        if n_steps is None:
            n_steps = 1 if env is None else _whole_episodes(env)
        if warmup_timesteps is None:
            learns = env is not None and env.has_attr("update")
            rollout = n_steps * env.num_envs if env is not None else 0
            warmup_timesteps = TrainConfig.warmup_rounds * rollout if learns else 0
        self.action_std = action_std
        self.warmup_timesteps = warmup_timesteps
        self.discriminator_updates = discriminator_updates
        self.accumulate = accumulate
        policy_kwargs = policy_kwargs or {}
        if accumulate != 1:
            # stable-baselines3 would shorten every partial sum.
            of_optimizer = {"every": accumulate, "max_grad_norm": max_grad_norm}
            of_optimizer |= policy_kwargs.get("optimizer_kwargs") or {}
            policy_kwargs = policy_kwargs | {"optimizer_kwargs": of_optimizer}
            max_grad_norm = math.inf
        fixed = {
            "gamma": 1.0,
            "gae_lambda": 1.0,
            "normalize_advantage": False,
            "rollout_buffer_class": EpisodeRolloutBuffer,
        }
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate=learning_rate,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=n_epochs,
            max_grad_norm=max_grad_norm,
            policy_kwargs=policy_kwargs,
            **(fixed | kwargs),
        )

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        if isinstance(env, VectorEnv):
            env = GymnasiumVecEnv(env)
        return stable_baselines3.PPO._wrap_env(env, verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        if issubclass(self.policy_class, AdaNATPolicy):
            check_observation_space(self.observation_space)
            if self.env is not None:
                _check_timestep(self.env)
                told = {"grid": _told(self.env, "feature_grid")}
                action_map = _told(self.env, "action_map")
                for name in ("raw_scale", "idle_at_last"):
                    told[name] = getattr(action_map, name, None)
                # A policy of one's own need not know of a map where there is none.
                told["map_size"] = getattr(action_map, "map_size", 0) or None
                agreed = {name: self._agreed(name, there) for name, there in told.items()}
                given = {name: value for name, value in agreed.items() if value is not None}
                if "grid" not in given:
                    raise ValueError(
                        "grid: got none, and the environment has no feature_grid; allowed is "
                        "policy_kwargs={'grid': (height, width)} of its features"
                    )
                if (ring := self._ring(self.env)) is not None:
                    given["feature_size"] = ring.features.shape[-1]
                self.policy_kwargs = self.policy_kwargs | given
        if self.env is not None and self.accumulate != 1:
            self._check_accumulation(self.n_steps * self.env.num_envs)
        super()._setup_model()
        self._look_up_in(self.env)

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """As stable-baselines3's; handles and groups are then those of this environment."""
        super().set_env(env, force_reset)
        if hasattr(self, "policy"):  # else it is being loaded
            self._look_up_in(self.env)

    def _look_up_in(self, env: VecEnv | None) -> None:
        if env is not None and env.has_attr("aligned"):
            env.set_attr("aligned", True)  # a rollout is of whole episodes
        if env is not None and isinstance(self.rollout_buffer, EpisodeRolloutBuffer):
            self.rollout_buffer.group_size = _told(env, "group_size") or 1
        if isinstance(self.policy, AdaNATPolicy) and env is not None:
            unfold: Any = self.policy.features_extractor
            unfold.ring = self._ring(env)

    def _ring(self, env: VecEnv) -> FeatureRing | None:
        """Where the features of an environment's handles are; None where it gives features.

        Raises:
            ValueError: one that has forgotten a rollout's first features before its end.
        """
        ring = _told(env, "ring")
        if ring is not None and ring.kept <= self.n_steps:
            raise ValueError(
                f"observations_kept: got {ring.kept}, allowed with n_steps = {self.n_steps} is one "
                "more, or above"
            )
        return ring

    def _agreed(self, option: str, there: Any) -> Any:
        """The policy's option as the environment has it; of one that does not tell as it is given.

        Raises:
            ValueError: they differ.
        """
        given = self.policy_kwargs.get(option)
        if there is None:
            return given
        if given is not None and type(there)(given) != there:
            raise ValueError(f"{option}: got {given}, allowed is the environment's {there}")
        return there

    def _check_accumulation(self, transitions: int) -> None:
        minibatches, rest = divmod(transitions, self.batch_size)
        if rest or minibatches % self.accumulate:
            raise ValueError(
                f"accumulate: got {self.accumulate}, allowed is a divisor of the minibatches of a "
                f"rollout, here of {transitions} transitions in minibatches of {self.batch_size}"
            )

    def set_random_seed(self, seed: int | None = None) -> None:
        """As stable-baselines3's; the environment takes numbers that no evaluation takes."""
        super().set_random_seed(seed)
        if seed is not None and self.env is not None:
            self.env.seed(TRAINING.seed_of(seed))

    def learn(
        self, total_timesteps: int, callback: MaybeCallback = None, *args: Any, **kwargs: Any
    ) -> Self:
        """As stable-baselines3's, with updates of the environment's discriminator.

        Args:
            total_timesteps: images times decoding steps.
            callback: one's own.
            args: of stable-baselines3's `learn`.
            kwargs: as `args`.

        Raises:
            ValueError: with `reset_num_timesteps=False`, the environment is no more where the
                last rollout left it.
        """
        if self.discriminator_updates and self.env is not None and self.env.has_attr("update"):
            callback = CallbackList(
                [DiscriminatorUpdates(self.discriminator_updates), *_callbacks(callback)]
            )
        return super().learn(total_timesteps, callback, *args, **kwargs)

    def decoding_policy(self, test_action: str = "expectation") -> LearnedPolicy:
        """What has been learned, as `generate` and `nat-eval` take it.

        Args:
            test_action: see `LearnedPolicy`.

        Raises:
            ValueError: a loaded model without its environment, which knows T and what actions mean.
        """
        if self.env is None:
            raise ValueError("env: got none, allowed is PPO.load(path, env=...) with one")
        (action_map,) = self.env.get_attr("action_map", 0)
        (num_steps,) = self.env.get_attr("num_steps", 0)
        std = self.policy.action_std
        (seen,) = self.env.get_attr("seen", 0)
        return LearnedPolicy(self.policy.actor, action_map, std, num_steps, test_action, seen)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """As stable-baselines3's, with the scheduled standard deviation."""
        self._check_where_it_was_left(env)
        self.policy.action_std = self.action_std(self._current_progress_remaining)
        goes_on = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        self._left = self._last_obs, _tensor_of(env, "conditions")
        return goes_on

    def _check_where_it_was_left(self, env: VecEnv) -> None:
        """A rollout begins on the masked canvas, of the conditions that the policy has seen there.

        Of an episode that has begun already only the last step would tell what it was worth.
        """
        timesteps, conditions = _tensor_of(env, "timesteps"), _tensor_of(env, "conditions")
        if timesteps is None or conditions is None:
            return
        last, seen = self._left or (None, None)
        stale = last is self._last_obs and seen is not None and not seen.equal(conditions)
        if stale or timesteps.any():
            raise ValueError(
                f"env: it is at steps {timesteps.min()} .. {timesteps.max()} of episodes that "
                "something else has begun, allowed is a rollout from where the last one ended; "
                "model.set_env(model.get_env()) lets the next learn() reset it"
            )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_left"]

    def train(self) -> None:
        """One update from the rollout buffer, unless the policy rests."""
        if isinstance(self.policy.optimizer, AccumulatingAdam):
            self.policy.optimizer.start()
        super().train()
        self.logger.record("train/std", self.policy.action_std)


def _whole_episodes(env: VecEnv) -> int:
    """Steps of each sub-environment for a rollout of enough images."""
    if not env.has_attr("num_steps"):
        raise ValueError("n_steps: got none, and the environment has no num_steps to take it from")
    episodes = math.ceil(TrainConfig.trajectories_per_round / env.num_envs)
    return episodes * env.get_attr("num_steps", 0)[0]


def _told(env: VecEnv, name: str) -> Any:
    """An attribute of a decoding environment; None of another one."""
    return env.get_attr(name, 0)[0] if env.has_attr(name) else None


def _tensor_of(env: VecEnv, name: str) -> torch.Tensor | None:
    found = _told(env, name)
    return None if found is None else torch.as_tensor(found)


def _check_timestep(env: VecEnv) -> None:
    normalize = unwrap_vec_wrapper(env, VecNormalize)
    if (
        isinstance(normalize, VecNormalize)
        and normalize.norm_obs
        and "timestep" in (normalize.norm_obs_keys or ())
    ):
        raise ValueError(
            "timestep: got one that VecNormalize changes, allowed is norm_obs_keys=['features']"
        )


def _callbacks(given: MaybeCallback) -> list[BaseCallback]:
    if isinstance(given, list | None):
        return given or []
    return [given if isinstance(given, BaseCallback) else ConvertCallback(given)]
