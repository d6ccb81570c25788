"""Policies of other algorithms, as they are used after training."""

from typing import Any

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch import Tensor

from nat_env.actions import ActionMap
from nat_env.observations import pooled


class PredictedPolicy:
    """A stable-baselines3 policy on pooled observations as a `DecodingPolicy`.

    Of a Gaussian policy it is the expectation of m, tau_1, tau_2, w or, for `test_action` "mean",
    the activations of its mean, as in `LearnedPolicy`; of another the action that it gives without
    exploration.
    """

    def __init__(
        self,
        policy: BasePolicy,
        action_map: ActionMap,
        num_steps: int,
        test_action: str = "expectation",
    ) -> None:
        """Follow `policy` through `action_map` in T = `num_steps`."""
        self.test_action = test_action
        self.policy = policy
        self.action_map = action_map
        self.num_steps = num_steps
        self._memory: Any = None

    def state_dict(self) -> dict[str, Any]:
        """All weights."""
        return self.policy.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`."""
        self.policy.load_state_dict(state)
        self.policy.set_training_mode(False)

    @torch.no_grad()
    def __call__(self, features: Tensor, timestep: Tensor) -> Tensor:
        """Features [B, N, D] and timesteps [B] -> m, tau_1, tau_2, w [B, 4].

        A recurrent policy remembers from one call to the next: its batches are decoded one after
        the other.
        """
        observation = pooled(features, timestep, self.num_steps)
        if isinstance(self.policy, ActorCriticPolicy):
            gaussian = self._distribution(observation, timestep)
            if self.test_action == "mean":
                return self.action_map.physical(gaussian.mean.clamp(-1, 1), timestep)
            return self.action_map.mean_physical(gaussian.mean, gaussian.stddev, timestep)
        was_training = self.policy.training
        self.policy.set_training_mode(False)
        actions = self.policy._predict(observation, deterministic=True)
        self.policy.set_training_mode(was_training)
        return self.action_map.physical(actions.clamp(-1, 1), timestep)

    def _distribution(self, observation: Tensor, timestep: Tensor) -> torch.distributions.Normal:
        policy = self.policy
        if not isinstance(policy, RecurrentActorCriticPolicy):
            assert isinstance(policy, ActorCriticPolicy)
            return policy.get_distribution(observation).distribution  # type: ignore[return-value]
        starts = (timestep == 0).float()
        if self._memory is None or self._memory[0].shape[1] != len(timestep):
            lstm = policy.lstm_actor
            zeros = observation.new_zeros(lstm.num_layers, len(timestep), lstm.hidden_size)
            self._memory = (zeros, zeros)
        found, self._memory = policy.get_distribution(observation, self._memory, starts)
        return found.distribution  # type: ignore[return-value]
