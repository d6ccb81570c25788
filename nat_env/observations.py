"""What the agent sees of the decoding state."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from nat_env.bundles.bundle import Bundle


@dataclass(frozen=True)
class ObservationForm:
    """A Gymnasium space and the function that fills it.

    `observe(features [B, M, D], ids [B, N], conditions [B], timesteps [B])` gives numpy arrays;
    features of finished rows (timestep T) are zeros.
    """

    space: spaces.Space
    observe: Callable[[Tensor, Tensor, Tensor, Tensor], Any]

    @staticmethod
    def named(name: str, bundle: Bundle, num_steps: int) -> "ObservationForm":
        """The form `features`, `pooled` or `tokens`.

        Raises:
            ValueError: another name.
        """
        makers = {"features": _features, "pooled": _pooled, "tokens": _tokens}
        if name not in makers:
            allowed = ", ".join(map(repr, makers))
            raise ValueError(f"observation: got {name!r}, allowed are {allowed}")
        return makers[name](bundle, num_steps)


def _features(bundle: Bundle, num_steps: int) -> ObservationForm:
    """The paper's state: the NAT's features and the timestep (Eq. 4 and section 5, Setups).

    The features are flat, [M * D] row-major, because stable-baselines3 takes vectors and images
    only; `AdaNATPolicy` folds them back.
    """
    bound = bundle.nat.feature_bound
    size = math.prod(bundle.nat.feature_grid) * bundle.nat.feature_size
    space = spaces.Dict(
        {
            "features": spaces.Box(-bound, bound, (size,), np.float32),
            "timestep": spaces.Box(0, num_steps, (1,), np.int64),
        }
    )

    def observe(features: Tensor, ids: Tensor, conditions: Tensor, timesteps: Tensor) -> Any:
        unfinished = (timesteps < num_steps)[:, None, None]
        return {
            "features": torch.where(unfinished, features, 0.0).flatten(1).cpu().numpy(),
            "timestep": _column(timesteps),
        }

    return ObservationForm(space, observe)


def _pooled(bundle: Bundle, num_steps: int) -> ObservationForm:
    """One flat vector [D + 1], see `pooled`."""
    bound = bundle.nat.feature_bound
    space = spaces.Box(-bound, bound, (bundle.nat.feature_size + 1,), np.float32)

    def observe(features: Tensor, ids: Tensor, conditions: Tensor, timesteps: Tensor) -> Any:
        return pooled(features, timesteps, num_steps).cpu().numpy()

    return ObservationForm(space, observe)


def pooled(features: Tensor, timesteps: Tensor, num_steps: int) -> Tensor:
    """Features [B, M, D] and timesteps [B] -> their mean over the places and t / T: [B, D + 1].

    Of finished rows the mean is 0.
    """
    unfinished = (timesteps < num_steps)[:, None]
    mean = torch.where(unfinished, features.float().mean(dim=1), 0.0)
    return torch.cat([mean, timesteps[:, None] / num_steps], dim=1)


def _tokens(bundle: Bundle, num_steps: int) -> ObservationForm:
    """The visual tokens themselves, with label and timestep."""
    space = spaces.Dict(
        {
            "ids": spaces.Box(0, bundle.nat.mask_id, (bundle.num_tokens,), np.int64),
            "condition": spaces.Box(0, len(bundle.conditions) - 1, (1,), np.int64),
            "timestep": spaces.Box(0, num_steps, (1,), np.int64),
        }
    )

    def observe(features: Tensor, ids: Tensor, conditions: Tensor, timesteps: Tensor) -> Any:
        return {
            "ids": ids.cpu().numpy().copy(),
            "condition": _column(conditions),
            "timestep": _column(timesteps),
        }

    return ObservationForm(space, observe)


def _column(values: Tensor) -> np.ndarray:
    return values[:, None].cpu().numpy().copy()
