"""Features that stay on the device that computed them, for observations that are handles."""

import torch
from torch import Tensor

from nat_env.frozen.nat import FrozenNAT


class FeatureRing:
    """The features of an environment's latest observations, in half precision, on the device.

    A slot is the number of a row in it. Slot 0 has zeros, which finished episodes have for
    features; the others are written over in turn.
    """

    def __init__(self, num_envs: int, kept: int, nat: FrozenNAT) -> None:
        """Make an empty one.

        Args:
            num_envs: B, rows of an observation.
            kept: observations that have a place.
            nat: says what features are, and where.
        """
        self.num_envs = num_envs
        self.kept = kept
        height, width = nat.feature_grid
        shape = (1 + kept * num_envs, height * width, nat.feature_size)
        self.features = torch.zeros(shape, dtype=torch.float16, device=nat.device)
        """[1 + kept * B, M, D]."""
        self._next = 0

    def put(self, features: Tensor) -> Tensor:
        """Features [B, M, D] -> the slots where they are from now on [B] int64, on the host."""
        start = 1 + self._next * self.num_envs
        self.features[start : start + self.num_envs] = features
        self._next = (self._next + 1) % self.kept
        return torch.arange(start, start + self.num_envs)

    def rows(self, slots: Tensor) -> Tensor:
        """Slots [R] -> features [R, M, D] float32, to which half precision has rounded them."""
        return self.features[slots.long()].float()
