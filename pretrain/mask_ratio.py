"""Distributions of the mask ratio in masked-token modelling."""

import math
import re

import torch
from torch import Tensor

_NUMBER = r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)"
_BETA = re.compile(rf"beta\({_NUMBER}, *{_NUMBER}\)")
_FIXED = re.compile(rf"fixed\({_NUMBER}\)")


def sample_mask_ratio(name: str, size: int) -> Tensor:
    """Draw mask ratios [size] in (0, 1] from torch's global generator.

    Args:
        name: `arccos` (MaskGIT: density 2 / (pi sqrt(1 - r^2))), `beta(a, b)` (AutoNAT, Eq. 7;
            its best is `beta(12, 3)`) or `fixed(r)`.
        size: how many.

    Raises:
        ValueError: an unknown name or parameters out of range.

    Example:
        >>> sample_mask_ratio("fixed(0.8)", 2)
        tensor([0.8000, 0.8000])
    """
    if name == "arccos":
        return torch.cos(torch.rand(size) * math.pi / 2)
    if match := _BETA.fullmatch(name):
        alpha, beta = map(float, match.groups())
        if 0 < alpha < math.inf and 0 < beta < math.inf:
            return torch.distributions.Beta(alpha, beta).sample((size,))
    if (match := _FIXED.fullmatch(name)) and 0 < float(match[1]) <= 1:
        return torch.full((size,), float(match[1]))
    raise ValueError(
        f"mask_ratio: got {name!r}, allowed are 'arccos', 'beta(a, b)' with a, b > 0 "
        "and 'fixed(r)' with 0 < r <= 1"
    )


def random_masks(ratio: Tensor, num_tokens: int) -> Tensor:
    """Masks [B, N] (bool) with exactly max(1, round(N r)) random positions of each row set."""
    counts = (ratio * num_tokens).round().clamp(1, num_tokens)  # [B]
    ranks = torch.rand(len(ratio), num_tokens).argsort(dim=1).argsort(dim=1)  # [B, N]
    return ranks < counts[:, None]
