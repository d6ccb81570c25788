"""What a reward is, what it is handed, the check of what one gives, and what one remembers."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from nat_env.frozen.precision import without_autocast


class Reward(Protocol):
    """Scores images one by one: deterministic, independent of the batch's other members."""

    def __call__(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] and labels [B] -> rewards [B] float32, no gradient."""
        ...


@torch.no_grad()
def scores_of(
    reward: Reward, images: Tensor, conditions: Tensor, name: str = "reward_fn"
) -> Tensor:
    """What `reward` gives, as float32 [B] without gradient.

    A reward may be anybody's function. It works on copies of its own, which it may change, then or
    later: other rewards, a discriminator and wrappers see the images as they were decoded.

    Args:
        reward: the function.
        images: [B, C, H, W] in [0, 1].
        conditions: labels [B].
        name: of the reward in messages.

    Raises:
        ValueError: see `checked_scores`.
    """
    with without_autocast(images.device):
        scores = reward(images.clone(), conditions.clone())
    return checked_scores(scores, len(images), name)


def checked_scores(scores: Any, count: int, name: str) -> Tensor:
    """Scores as float32 [count] without gradient.

    One of shape [count, 1] would broadcast to [count, count] in a sum, and one NaN would end in
    every parameter of the policy, so both are refused here.

    Raises:
        ValueError: not one number for each image, or one that float32 has not or that is not
            finite.

    Example:
        >>> checked_scores([0, 1e300], 2, "mine")
        Traceback (most recent call last):
        ...
        ValueError: mine: gave inf for 1 of 2 images, allowed are finite numbers
    """
    scores = torch.as_tensor(scores).detach().float()
    if scores.shape != (count,):
        raise ValueError(
            f"{name}: gave shape {tuple(scores.shape)}, allowed is one number for each "
            f"of the {count} images"
        )
    finite = torch.isfinite(scores)
    if not bool(finite.all()):
        wrong, first = int((~finite).sum()), float(scores[~finite][0])
        raise ValueError(
            f"{name}: gave {first} for {wrong} of {count} images, allowed are finite numbers"
        )
    return scores


def state_of(reward: Any) -> dict[str, Any]:
    """What `reward` has learned or remembers, its `state_dict()`; empty where it has none."""
    return reward.state_dict() if hasattr(reward, "state_dict") else {}


def restore_state(reward: Any, state: dict[str, Any]) -> None:
    """Restore `state_of(reward)`."""
    if state:
        reward.load_state_dict(state)


def tell_names(reward: Any, names: Sequence[str]) -> None:
    """Tell a reward that goes by names those of a table to which rows have been added.

    Rows that there were keep their numbers. A reward that asks for it has a method `tell_names`.
    """
    if hasattr(reward, "tell_names"):
        reward.tell_names(names)
