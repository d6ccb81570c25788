"""AdaNAT's PPO: stable-baselines3's, with the paper's returns and exploration schedule."""

from collections.abc import Callable
from typing import Any

import stable_baselines3
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from agents.learners.buffers import EpisodeRolloutBuffer
from agents.learners.policy import AdaNATPolicy
from agents.learners.warmup import WaitsForReward


class PPO(WaitsForReward, stable_baselines3.PPO):
    """PPO with a scheduled standard deviation and a policy that waits for its reward model.

    Rollouts are whole episodes, gamma = lambda = 1, advantages are normalised returns minus
    values (Eq. 11, 12). Everything else is stable-baselines3's.
    """

    policy: AdaNATPolicy

    def __init__(
        self,
        policy: str | type[AdaNATPolicy],
        env: VecEnv,
        action_std: Callable[[float], float] = lambda remaining: 0.6 if remaining > 0.5 else 0.3,
        warmup_timesteps: int = 0,
        **kwargs: Any,
    ) -> None:
        """Set up as stable-baselines3's PPO does.

        Args:
            policy: `AdaNATPolicy`.
            env: of whole episodes per rollout.
            action_std: sigma in raw units by the share of training that remains, 1 .. 0.
            warmup_timesteps: until then the policy rests while its reward model learns.
            kwargs: of stable-baselines3's PPO.

        Raises:
            ValueError: a discount.
        """
        for name in ("gamma", "gae_lambda"):
            if kwargs.pop(name, 1.0) != 1.0:
                raise ValueError(f"{name}: allowed is 1: a return is an episode's (Eq. 11)")
        self.action_std = action_std
        self.warmup_timesteps = warmup_timesteps
        fixed = {
            "gamma": 1.0,
            "gae_lambda": 1.0,
            "normalize_advantage": False,
            "rollout_buffer_class": EpisodeRolloutBuffer,
        }
        super().__init__(policy, env, **(fixed | kwargs))

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """As stable-baselines3's, with the scheduled standard deviation."""
        self.policy.action_std = self.action_std(self._current_progress_remaining)
        return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)

    def train(self) -> None:
        """One update from the rollout buffer, unless the policy rests."""
        super().train()
        self.logger.record("train/std", self.policy.action_std)
