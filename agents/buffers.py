"""The rollout buffer of AdaNAT: whole episodes, one normalised return for each."""

import numpy as np
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer


class EpisodeRolloutBuffer(DictRolloutBuffer):
    """Advantage A_t = R - V(s_t) (Eq. 12) with R the return, normalised over the rollout.

    stable-baselines3 normalises advantages by minibatch instead; here the return is normalised
    once, as in the authors' code, so that the critic's target has a fixed scale while the
    discriminator's rewards drift.

    Features, nearly all of a rollout's memory, are kept in half precision.
    """

    def reset(self) -> None:
        """Empty the buffer."""
        super().reset()
        shape = self.observations["features"].shape
        self.observations["features"] = np.zeros(shape, np.float16)

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: np.ndarray) -> None:
        """Fill `returns` and `advantages` [steps, envs].

        Raises:
            ValueError: the rollout ends inside an episode; choose n_steps as a multiple of T.
        """
        if not np.all(dones):
            raise ValueError("n_steps: the rollout ends inside an episode, allowed are whole ones")
        episode_return = np.zeros(self.n_envs, np.float32)
        for step in reversed(range(self.buffer_size)):
            ends = dones if step == self.buffer_size - 1 else self.episode_starts[step + 1]
            episode_return = self.rewards[step] + (1.0 - ends) * episode_return
            self.returns[step] = episode_return
        scale = self.returns.std() + 1e-7
        self.returns = (self.returns - self.returns.mean()) / scale
        self.advantages = self.returns - self.values
