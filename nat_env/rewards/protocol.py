"""What a reward is, what it is handed, the check of what one gives, and what one remembers."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nat_env.frozen.precision import without_autocast

_SHOWN = 60
"""Characters of a value that a message shows."""


class Reward(Protocol):
    """Scores images one by one: deterministic, independent of the batch's other members."""

    def __call__(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] and labels [B] -> rewards [B] float32, no gradient.

        On any device: `scores_of` fetches what is not on the host's.
        """
        ...


@torch.no_grad()
def scores_of(
    reward: Reward, images: Tensor, conditions: Tensor, name: str = "reward_fn"
) -> Tensor:
    """What `reward` gives, as float32 [B] without gradient, on the host.

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
    """Scores as float32 [count] without gradient, on the host.

    They are fetched before they are looked at, in one copy: an accelerator is waited for once, and
    not at all where another check has fetched them.

    One of shape [count, 1] would broadcast to [count, count] in a sum, and one NaN would end in
    every parameter of the policy, so both are refused here.

    Raises:
        ValueError: not one real number for each image, or one that float32 has not or that is not
            finite.

    Example:
        >>> checked_scores([0, 1e300], 2, "mine")
        Traceback (most recent call last):
        ...
        ValueError: mine: gave inf for 1 of 2 images, allowed are finite numbers
    """
    scores = real_numbers(scores, f"{count} images", name).cpu().float()
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


def real_numbers(given: Any, of: str, name: str) -> Tensor:
    """What anybody's function gave as a tensor without gradient; its shape is not looked at.

    Complex numbers and numpy's masked ones would lose a half, or come with what fills a gap.

    Args:
        given: a tensor, an array, numbers, a sequence of them, or anything else.
        of: what there should be one number for each of, in messages.
        name: of the function in messages.

    Raises:
        ValueError: no real numbers.
    """
    try:
        found = None if np.ma.is_masked(given) else torch.as_tensor(given).detach()
    except (TypeError, ValueError, RuntimeError):  # what torch raises of what it cannot take
        found = None
    if found is None or found.is_complex() or found.layout != torch.strided:
        shown = " ".join(repr(given).split())
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        raise ValueError(f"{name}: gave {shown}, allowed is one real number for each of the {of}")
    return found


def remembers(reward: Any) -> bool:
    """Whether what it says of an image depends on those before: it learns or remembers.

    Example:
        >>> remembers(lambda images, conditions: images.mean(dim=(1, 2, 3)))
        False
    """
    return _holds_any(state_of(reward))


def _holds_any(state: Any) -> bool:
    """Whether a state has any value, at any depth: that of a sum has a place for each term."""
    if isinstance(state, Mapping):
        return any(map(_holds_any, state.values()))
    return any(map(_holds_any, state)) if isinstance(state, list) else state is not None


def state_of(reward: Any) -> dict[str, Any]:
    """What `reward` has learned or remembers, its `state_dict()`; empty where it has none.

    Raises:
        ValueError: it is no dict, or could not be restored.
    """
    if not hasattr(reward, "state_dict"):
        return {}
    if not hasattr(reward, "load_state_dict"):
        raise ValueError(
            f"reward: {type(reward).__name__} has a state_dict and no load_state_dict, allowed are "
            "both or neither"
        )
    state = reward.state_dict()
    if not isinstance(state, dict):
        raise ValueError(
            f"reward: state_dict of {type(reward).__name__} gave {type(state).__name__}, allowed "
            "is a dict"
        )
    return state


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
