"""What a reward is, the check of what one gives, and what one remembers."""

from typing import Any, Protocol

import torch
from torch import Tensor

from nat_env.models.precision import without_autocast


class Reward(Protocol):
    """Scores images one by one: deterministic, independent of the batch's other members."""

    def __call__(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] and labels [B] -> rewards [B] float32, no gradient."""
        ...


@torch.no_grad()
def scores_of(reward: Reward, images: Tensor, conditions: Tensor) -> Tensor:
    """What `reward` gives, as float32 [B] without gradient.

    A reward may be anybody's function. One of shape [B, 1] would broadcast to [B, B] in a sum, and
    one NaN would end in every parameter of the policy, so both are refused here.

    Args:
        reward: the function.
        images: [B, C, H, W] in [0, 1].
        conditions: labels [B].

    Raises:
        ValueError: not one number for each image, or one that is not finite.
    """
    with without_autocast(images.device):
        scores = torch.as_tensor(reward(images, conditions))
    if scores.shape != (len(images),):
        raise ValueError(
            f"reward_fn: gave shape {tuple(scores.shape)}, allowed is one number for each "
            f"of the {len(images)} images"
        )
    finite = torch.isfinite(scores)
    if not bool(finite.all()):
        count, first = int((~finite).sum()), float(scores[~finite][0])
        raise ValueError(
            f"reward_fn: gave {first} for {count} of {len(images)} images, allowed are finite "
            "numbers"
        )
    return scores.detach().float()


def state_of(reward: Any) -> dict[str, Any]:
    """What `reward` has learned or remembers, its `state_dict()`; empty where it has none."""
    return reward.state_dict() if hasattr(reward, "state_dict") else {}


def restore_state(reward: Any, state: dict[str, Any]) -> None:
    """Restore `state_of(reward)`."""
    if state:
        reward.load_state_dict(state)
