"""The alignment score: how often an image is nearer to its own prompt than to others'.

The retrieval of Xu et al. 2018 (AttnGAN's R-precision, arXiv:1711.10485, Sec. 4): of an image, its
own prompt and 99 others of the table, is its own the nearest one to a model of images and texts? It
means something only beside that model's name and the number of prompts.
"""

import numpy as np
import torch
from torch import Tensor

AMONG = 100
"""Prompts that an image is held against, its own among them; all, of a table that has fewer."""

_SEED = 23


def rivals(condition: int, num_conditions: int) -> list[int]:
    """The other prompts that images of one are held against: always the same ones.

    Example:
        >>> rivals(1, 3)
        [0, 2]
        >>> len(set(rivals(7, 1000)) - {7})
        99
    """
    count = min(AMONG, num_conditions) - 1
    rng = np.random.default_rng([_SEED, condition])
    drawn = np.sort(rng.choice(num_conditions - 1, count, replace=False))
    return (drawn + (drawn >= condition)).tolist()  # its own left out


def aligned(scores: Tensor, conditions: Tensor) -> Tensor:
    """Which images are nearer to their own prompt than to every one of its rivals: [B] bool.

    Args:
        scores: of images and all prompts of the table [B, C], higher where they are nearer.
        conditions: the images' own [B] int64, on the host.

    Raises:
        ValueError: fewer than two prompts, or scores that are not finite.

    Example:
        >>> aligned(torch.tensor([[0.3, 0.1], [0.3, 0.1]]), torch.tensor([0, 1]))
        tensor([ True, False])
    """
    num_conditions = scores.shape[1]
    if num_conditions < 2:
        raise ValueError(
            f"conditions: got {num_conditions}, allowed for an alignment are 2 or more"
        )
    if not bool(scores.isfinite().all()):
        raise ValueError("scores: got some that are not finite, allowed are numbers")
    others = torch.tensor([rivals(condition, num_conditions) for condition in conditions.tolist()])
    own = scores.gather(1, conditions[:, None].to(scores.device))  # [B, 1]
    return (own > scores.gather(1, others.to(scores.device))).all(dim=1)
