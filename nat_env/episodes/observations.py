"""What the agent sees of the decoding state."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.decoding.certainty import confidence_features
from nat_env.episodes.ring import FeatureRing
from nat_env.episodes.spaces import UniformBox
from nat_env.frozen.grid import token_grid
from nat_env.frozen.nat import Passes
from nat_env.frozen.transfers import sent


@dataclass(frozen=True)
class ObservationForm:
    """A Gymnasium space and the functions that fill it."""

    space: spaces.Space
    observe: Callable[[Passes, Tensor, Tensor, Tensor], Any]
    """Passes and ids [B, N], which may be on an accelerator, and of the host conditions [B] and
    timesteps [B] -> numpy arrays of all rows; features of finished rows (timestep T) are zeros."""
    final: Callable[[Tensor, Tensor], list[Any]]
    """Ids [F, N] and conditions [F] of finished rows -> the last observation of each. Where nothing
    tells them apart their arrays are the same, which nobody can write to."""
    grid: tuple[int, int]
    """Places of the features along height and width, of which `AdaNATPolicy` has to know."""
    ring: FeatureRing | None = None
    """Where the features of handles are."""

    def final_info(
        self, ids: Tensor, conditions: Tensor, done: np.ndarray, told: Mapping[str, np.ndarray]
    ) -> dict[str, Any]:
        """Gymnasium's `final_obs` and `final_info` of the rows that end in a step.

        Args:
            ids: of all rows [B, N].
            conditions: of all rows [B].
            done: which of them end, bool [B].
            told: what `info` has of the step, by rows: physical actions [B, 4] and passes [B].
        """
        rows = torch.from_numpy(np.flatnonzero(done))
        observations = np.full(len(done), None, dtype=object)
        found = self.final(ids[sent(rows, ids.device)], conditions[rows])
        for row, last in zip(rows.tolist(), found, strict=True):
            observations[row] = last
        last = {name: told[name].copy() for name in ("action", "passes")}
        return {
            "final_obs": observations,
            "_final_obs": done,
            "final_info": last | {f"_{name}": done for name in last},
            "_final_info": done,
        }

    @staticmethod
    def named(
        name: str, bundle: Bundle, num_steps: int, num_envs: int = 1, kept: int = 1
    ) -> "ObservationForm":
        """The form `features`, `confidences`, `handles`, `pooled` or `tokens`.

        Args:
            name: of the form.
            bundle: whose states are observed.
            num_steps: T.
            num_envs: B, rows of an observation.
            kept: see `FeatureRing`.

        Raises:
            ValueError: another name, or confidences of tokens that are on no grid.
        """
        makers = {
            "features": _features,
            "confidences": _confidences,
            "handles": partial(_handles, num_envs, kept),
            "pooled": _pooled,
            "tokens": _tokens,
        }
        if name not in makers:
            allowed = ", ".join(map(repr, makers))
            raise ValueError(f"observation: got {name!r}, allowed are {allowed}")
        return makers[name](bundle, num_steps)


def _features(bundle: Bundle, num_steps: int) -> ObservationForm:
    """The paper's state: the NAT's features and the timestep (Eq. 4 and section 5, Setups).

    The features are flat, [M * D] row-major, because stable-baselines3 takes vectors and images
    only; `AdaNATPolicy` folds them back.
    """
    nat = bundle.nat
    sizes = nat.feature_grid, nat.feature_size, nat.feature_bound
    return _of_places(*sizes, _of_the_transformer, num_steps)


def _of_the_transformer(passes: Passes, ids: Tensor) -> Tensor:
    return passes.features


def _confidences(bundle: Bundle, num_steps: int) -> ObservationForm:
    """How sure the NAT is of each token, and which are masked, in the form of features [N * 2]."""
    found = partial(_confidences_of, bundle.nat.mask_id)
    return _of_places(token_grid(bundle.nat), 2, 1.0, found, num_steps)


def _confidences_of(mask_id: int, passes: Passes, ids: Tensor) -> Tensor:
    return confidence_features(passes.logits, ids == mask_id)


def _of_places(
    grid: tuple[int, int],
    feature_size: int,
    bound: float,
    features_of: Callable[[Passes, Tensor], Tensor],
    num_steps: int,
) -> ObservationForm:
    """A Dict of features and timestep.

    Args:
        grid: places of the features.
        feature_size: D.
        bound: which no feature is beyond.
        features_of: from passes and ids [B, N] to features [B, M, D].
        num_steps: T.
    """
    size = math.prod(grid) * feature_size
    space = spaces.Dict(
        {
            "features": UniformBox(-bound, bound, (size,)),
            "timestep": spaces.Box(0, num_steps, (1,), np.int64),
        }
    )
    last = {
        "features": _read_only(np.zeros(size, np.float32)),
        "timestep": _read_only(np.array([num_steps])),
    }
    observe = partial(_observed_places, num_steps, features_of)
    return ObservationForm(space, observe, partial(_same, last), grid)


def _observed_places(
    num_steps: int,
    features_of: Callable[[Passes, Tensor], Tensor],
    passes: Passes,
    ids: Tensor,
    conditions: Tensor,
    timesteps: Tensor,
) -> dict[str, np.ndarray]:
    unfinished = sent(timesteps < num_steps, ids.device)[:, None, None]
    found = torch.where(unfinished, features_of(passes, ids), 0.0)
    return {"features": found.flatten(1).cpu().numpy(), "timestep": _column(timesteps)}


def _handles(num_envs: int, kept: int, bundle: Bundle, num_steps: int) -> ObservationForm:
    """The paper's state as the numbers of rows in a `FeatureRing`, and the timestep."""
    ring = FeatureRing(num_envs, kept, bundle.nat)
    space = spaces.Dict(
        {
            "slot": spaces.Box(0, len(ring.features) - 1, (1,), np.int64),
            "timestep": spaces.Box(0, num_steps, (1,), np.int64),
        }
    )
    last = {"slot": _read_only(np.array([0])), "timestep": _read_only(np.array([num_steps]))}
    return ObservationForm(
        space,
        partial(_observed_slots, num_steps, ring),
        partial(_same, last),
        bundle.nat.feature_grid,
        ring,
    )


def _observed_slots(
    num_steps: int,
    ring: FeatureRing,
    passes: Passes,
    ids: Tensor,
    conditions: Tensor,
    timesteps: Tensor,
) -> dict[str, np.ndarray]:
    slots = torch.where(timesteps < num_steps, ring.put(passes.features), 0)
    return {"slot": _column(slots), "timestep": _column(timesteps)}


def _pooled(bundle: Bundle, num_steps: int) -> ObservationForm:
    """One flat vector [D + 1], see `pooled`."""
    size = bundle.nat.feature_size
    space = UniformBox(-bundle.nat.feature_bound, bundle.nat.feature_bound, (size + 1,))
    last = _read_only(np.append(np.zeros(size, np.float32), np.float32(1)))
    grid = bundle.nat.feature_grid
    return ObservationForm(space, partial(_observed_mean, num_steps), partial(_same, last), grid)


def _observed_mean(
    num_steps: int, passes: Passes, ids: Tensor, conditions: Tensor, timesteps: Tensor
) -> np.ndarray:
    return pooled(passes.features, sent(timesteps, ids.device), num_steps).cpu().numpy()


def pooled(features: Tensor, timesteps: Tensor, num_steps: int) -> Tensor:
    """Features [B, M, D] and timesteps [B] -> their mean over the places and t / T: [B, D + 1].

    Of finished rows the mean is 0.
    """
    unfinished = (timesteps < num_steps)[:, None]
    mean = torch.where(unfinished, features.float().mean(dim=1), 0.0)
    return torch.cat([mean, timesteps[:, None].float() / num_steps], dim=1)


def _tokens(bundle: Bundle, num_steps: int) -> ObservationForm:
    """The visual tokens themselves, with label and timestep."""
    space = spaces.Dict(
        {
            "ids": UniformBox(0, bundle.nat.mask_id, (bundle.num_tokens,), np.int64),
            "condition": spaces.Box(0, len(bundle.conditions) - 1, (1,), np.int64),
            "timestep": spaces.Box(0, num_steps, (1,), np.int64),
        }
    )
    grid = bundle.nat.feature_grid
    return ObservationForm(space, _observed_tokens, partial(_last_tokens, num_steps), grid)


def _observed_tokens(
    passes: Passes | None, ids: Tensor, conditions: Tensor, timesteps: Tensor
) -> dict[str, np.ndarray]:
    return {
        "ids": ids.cpu().numpy().copy(),
        "condition": _column(conditions),
        "timestep": _column(timesteps),
    }


def _last_tokens(num_steps: int, ids: Tensor, conditions: Tensor) -> list[Any]:
    batch = _observed_tokens(None, ids, conditions, torch.full_like(conditions, num_steps))
    return [{name: part[row].copy() for name, part in batch.items()} for row in range(len(ids))]


def _same(last: Any, ids: Tensor, conditions: Tensor) -> list[Any]:
    return [dict(last) if isinstance(last, dict) else last for _ in ids]


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _column(values: Tensor) -> np.ndarray:
    return values[:, None].cpu().numpy().copy()
