"""What a reward is."""

from typing import Protocol

from torch import Tensor


class Reward(Protocol):
    """Scores images one by one: deterministic, independent of the batch's other members."""

    def __call__(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] and labels [B] -> rewards [B] float32, no gradient."""
        ...
