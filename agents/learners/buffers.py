"""The rollout buffer of AdaNAT: whole episodes, one normalised return for each."""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer

from nat_env.storage.files import require_writable_folder, reserve


class EpisodeRolloutBuffer(DictRolloutBuffer):
    """Advantage A_t = R - V(s_t) (Eq. 12) with R the return, normalised over the rollout.

    Of environments in groups, that decode the same with the same random numbers, the mean of a
    group's returns is taken off first (a group baseline, as GRPO's).

    stable-baselines3 normalises advantages by minibatch instead; here the return is normalised
    once, as in the authors' code, so that the critic's target has a fixed scale while the
    discriminator's rewards drift.

    Features, nearly all of a rollout's memory, are kept once, in half precision, and in a file
    where one is asked for.
    """

    summed: Callable[[torch.Tensor], torch.Tensor] = staticmethod(lambda own: own)
    """Adds up numbers over all processes that collect the rollout together."""

    group_size = 1
    """Environments, one after the other, that are a group."""

    def __init__(self, *args: Any, folder: str | Path | None = None, **kwargs: Any) -> None:
        """Make an empty buffer.

        Args:
            args: of stable-baselines3's `DictRolloutBuffer`.
            folder: of a nameless file for the features, so that memory does not grow with the
                rollout; None keeps them in memory.
            kwargs: as `args`.

        Raises:
            ValueError: nothing can be written in the folder, or not as much as a rollout needs.
        """
        if folder is not None:
            require_writable_folder(Path(folder))
        self.folder = folder
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Empty the buffer."""
        if "features" not in self.obs_shape:  # handles, whose features are not here
            return super().reset()
        shapes, size = self.obs_shape, self.obs_shape["features"]
        self.obs_shape = shapes | {"features": (0,)}  # of the right size below, never in float32
        super().reset()
        self.obs_shape = shapes
        # Sub-environments first: so `get` flattens a view, not a copy of the rollout.
        features = self._zeros((self.n_envs, self.buffer_size, *size))
        self.observations["features"] = features.swapaxes(0, 1)

    def _zeros(self, shape: tuple[int, ...]) -> np.ndarray:
        if self.folder is None:
            return np.zeros(shape, np.float16)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            reserve(file.fileno(), 2 * math.prod(shape), Path(self.folder))
            return np.memmap(file, np.float16, "r+", shape=shape)

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: np.ndarray) -> None:
        """Fill `returns` and `advantages` [steps, envs].

        Raises:
            ValueError: the rollout ends inside an episode; choose n_steps as a multiple of T. Or a
                reward that is not finite, of a wrapper: it would end in every parameter.
        """
        finite = np.isfinite(self.rewards)
        if not finite.all():
            raise ValueError(
                f"rewards: got {self.rewards[~finite][0]} in {int((~finite).sum())} of "
                f"{finite.size} steps, allowed are finite numbers"
            )
        if not np.all(dones):
            raise ValueError(
                "n_steps: the rollout ends inside an episode, allowed are whole ones, of an "
                "environment whose episodes have one length (aligned=True)"
            )
        episode_return = np.zeros(self.n_envs, np.float32)
        for step in reversed(range(self.buffer_size)):
            ends = dones if step == self.buffer_size - 1 else self.episode_starts[step + 1]
            episode_return = self.rewards[step] + (1.0 - ends) * episode_return
            self.returns[step] = episode_return
        if self.group_size > 1:
            groups = self.returns.reshape(self.buffer_size, -1, self.group_size)
            self.returns = (groups - groups.mean(axis=2, keepdims=True)).reshape(self.returns.shape)
        mean, std = self._moments()
        self.returns = (self.returns - mean) / (std + 1e-7)
        self.advantages = self.returns - self.values

    def _moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the returns of all processes, in float64."""
        returns = self.returns.astype(np.float64)
        count, total = self._summed(returns.size, returns.sum())
        (squares,) = self._summed(np.square(returns - total / count).sum())
        return total / count, math.sqrt(squares / count)

    def _summed(self, *numbers: float) -> list[float]:
        return self.summed(torch.tensor(numbers, dtype=torch.float64)).tolist()
