"""What callers hand to the vector environment: modes, actions, seeds, options, states, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeGuard

import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.episodes.prompts import chosen_prompts
from nat_env.frozen.canvas import partly_known

ROUNDING = 1e-6
"""What a wrapper that rescales actions in float32 may be off by: a few steps of it near 1."""


def check_construction(
    num_envs: int,
    num_steps: int,
    observations_kept: int,
    group_size: int,
    aligned: bool,
    render_mode: str | None,
    render_modes: Sequence[str],
) -> None:
    """Check the numbers and the render mode that an environment is made with.

    Raises:
        ValueError: one that is not allowed.
    """
    numbers = {
        "num_envs": num_envs,
        "num_steps": num_steps,
        "observations_kept": observations_kept,
        "group_size": group_size,
    }
    for name, number in numbers.items():
        if not is_integer(number) or number < 1:
            raise ValueError(f"{name}: got {number!r}, allowed are integers >= 1")
    if num_envs % group_size:
        raise ValueError(f"group_size: got {group_size}, must divide num_envs = {num_envs}")
    if group_size > 1 and not aligned:
        raise ValueError(f"group_size: got {group_size}, allowed is 1 of rows that are not aligned")
    if render_mode not in (None, *render_modes):
        allowed = ", ".join(map(repr, (None, *render_modes)))
        raise ValueError(f"render_mode: got {render_mode!r}, allowed are {allowed}")


def is_integer(value: Any) -> TypeGuard[int | np.integer]:
    """Whether it is an integer, Python's or numpy's, and no truth value.

    Example:
        >>> is_integer(np.int64(3)), is_integer(True), is_integer(2.0)
        (True, False, False)
    """
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def checked_actions(actions: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Actions as float32 [B, n], clipped where they are beyond [-1, 1] by `ROUNDING` at most.

    Raises:
        ValueError: no real numbers, another shape, a value that is not finite or outside of
            [-1, 1].
    """
    given = actions.detach().cpu() if isinstance(actions, Tensor) else actions
    try:
        array = np.asarray(given)
    except ValueError as error:  # of lists of different lengths
        raise ValueError(f"actions: allowed are numbers {shape} ({error})") from None
    if array.dtype.kind not in "fiu":
        raise ValueError(f"actions: got {array.dtype}, allowed are real numbers {shape}")
    array = np.array(array, dtype=np.float32, order="C")  # torch takes no negative strides
    if array.shape != shape:
        raise ValueError(f"actions: got shape {array.shape}, allowed is {shape}")
    if not np.isfinite(array).all():
        raise ValueError("actions: got a value that is not finite, allowed is [-1, 1]")
    if np.abs(array).max() > 1 + ROUNDING:
        raise ValueError(f"actions: got {array.min()} .. {array.max()}, allowed is [-1, 1]")
    return array.clip(-1, 1)


def chosen_autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    """Gymnasium's mode of that name.

    Raises:
        ValueError: there is none.
    """
    try:
        return AutoresetMode(mode)
    except ValueError:
        allowed = ", ".join(repr(m.value) for m in AutoresetMode)
        raise ValueError(f"autoreset_mode: got {mode!r}, allowed are {allowed}") from None


def check_options(options: dict[str, Any], allowed: Sequence[str]) -> None:
    """Check the names of a reset's options.

    Raises:
        ValueError: another one.
    """
    unknown = sorted(options.keys() - set(allowed))
    if unknown:
        raise ValueError(f"options: got {', '.join(unknown)}, allowed are {', '.join(allowed)}")


def reset_mask(options: dict[str, Any], num_envs: int, started: bool) -> np.ndarray:
    """The rows to start, bool [B]: those of `options["reset_mask"]`, or all.

    Args:
        options: of a reset.
        num_envs: B.
        started: whether every row has been started before.

    Raises:
        ValueError: a mask of the wrong kind, or one that leaves out rows never started.
    """
    mask = options.get("reset_mask")
    if mask is None:
        return np.ones(num_envs, bool)
    if (
        not isinstance(mask, np.ndarray)
        or mask.shape != (num_envs,)
        or mask.dtype != np.bool_
        or not mask.any()
    ):
        raise ValueError(f"reset_mask: got {mask!r}, allowed is bool [{num_envs}], not all False")
    if not started and not mask.all():
        raise ValueError("reset_mask: the first reset must start every row")
    return mask


def chosen_conditions(options: dict[str, Any], num_envs: int, bundle: Bundle) -> Tensor | None:
    """The labels [B] that `options["condition"]` asks for, None where it asks for none.

    Raises:
        ValueError: neither a label nor one per row, or a label out of range.
    """
    if options.get("condition") is None:
        return None
    given = np.asarray(options["condition"])
    if given.dtype.kind not in "iu" or given.shape not in ((), (num_envs,)):
        raise ValueError(
            f"condition: got {options['condition']!r}, allowed are a label (integer) or "
            f"{num_envs} of them"
        )
    labels = torch.from_numpy(given.astype(np.int64)).expand(num_envs)
    bundle.conditions.check(labels)
    return labels


def chosen_canvas(options: dict[str, Any], shape: tuple[int, ...], bundle: Bundle) -> Tensor | None:
    """The canvas that `options["ids"]` and `["known"]` ask for, None where they ask for none.

    Raises:
        ValueError: see `partly_known`.
    """
    return partly_known(bundle.nat, options.get("ids"), options.get("known"), shape)


@dataclass(frozen=True)
class Starts:
    """The episodes that a reset asks for."""

    mask: np.ndarray
    """Rows that start, S of them [B] bool."""
    rows: Tensor
    """Their numbers [S]."""
    labels: Tensor | None
    """[S]; None: drawn."""
    canvases: Tensor | None
    """[S, N]; None: empty."""
    prompts: list[str] | None
    """S of them, in place of labels."""

    @classmethod
    def of(
        cls,
        options: dict[str, Any] | None,
        shape: tuple[int, int],
        bundle: Bundle,
        started: bool,
        group_size: int = 1,
    ) -> Self:
        """What the options of a reset say.

        Args:
            options: `reset_mask`, `condition`, `prompt`, `ids` and `known`, or some of them.
            shape: rows and tokens of each, (B, N).
            bundle: of the environment.
            started: whether every row has been started before.
            group_size: rows that have to start alike, one after the other.

        Raises:
            ValueError: a mask, labels, prompts or tokens of the wrong kind, of rows of a group that
                are not alike, or another option.
        """
        options = options or {}
        check_options(options, ("reset_mask", "condition", "prompt", "ids", "known"))
        mask = reset_mask(options, shape[0], started)
        rows = torch.from_numpy(np.flatnonzero(mask))
        labels = chosen_conditions(options, shape[0], bundle)
        canvases = chosen_canvas(options, shape, bundle)
        prompts = chosen_prompts(options, shape[0])
        given = {"reset_mask": mask, "condition": labels, "prompt": prompts, "ids": canvases}
        for name, values in given.items():
            if group_size > 1 and values is not None and not _are_groups(values, group_size):
                raise ValueError(
                    f"{name}: got rows of a group that differ, allowed is the same for each "
                    f"{group_size} rows, one after the other"
                )
        return cls(
            mask,
            rows,
            None if labels is None else labels[rows],
            None if canvases is None else canvases[rows],
            None if prompts is None else [prompts[row] for row in rows.tolist()],
        )


def _are_groups(values: Any, size: int) -> bool:
    """Whether of rows [B, ...] each `size`, one after the other, are alike."""
    host = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    groups = host.reshape(-1, size, *host.shape[1:])
    return bool((groups == groups[:, :1]).all())


def completed_state(
    state: dict[str, Any], shape: tuple[int, int], num_steps: int, mask_id: int, actions: int
) -> dict[str, Any]:
    """A stored state with what those of before did not have: all unknown, passes, no smoothing.

    Raises:
        ValueError: it is not of an environment of these sizes, [B, N] and `actions` of a row.
    """
    num_envs, num_tokens = shape
    of_before = {
        "unknown": torch.full((num_envs,), num_tokens),
        "masked": (state["ids"] == mask_id).sum(dim=-1).cpu(),
        "passes": state["timesteps"],
        "average": torch.zeros(num_envs, actions),
    }
    state = of_before | state
    tensors = ("ids", "conditions", "timesteps", *of_before)
    given = {name: tuple(state[name].shape) for name in tensors}
    given["generators"] = (len(state["generators"]),)
    allowed = dict.fromkeys(given, (num_envs,))
    allowed |= {"ids": (num_envs, num_tokens), "average": (num_envs, actions)}
    if given != allowed:
        raise ValueError(f"state: got sizes {given}, allowed are {allowed}")
    latest = int(state["timesteps"].max())
    if latest > num_steps:
        raise ValueError(f"state: got timesteps up to {latest}, allowed is T = {num_steps} at most")
    return state


def restored_generators(states: Sequence[dict[str, Any]]) -> list[np.random.Generator]:
    """Generators that go on from states of `bit_generator.state`."""
    generators = [np.random.Generator(np.random.PCG64()) for _ in states]
    for generator, state in zip(generators, states, strict=True):
        generator.bit_generator.state = state
    return generators


def row_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """The seed of each row: seed + i, seed[i], or None.

    Raises:
        ValueError: another number of seeds than rows, or what is no integer >= 0.

    Example:
        >>> row_seeds(5, 3), row_seeds([1, None], 2)
        ([5, 6, 7], [1, None])
    """
    seeds: list[Any]
    if seed is None or is_integer(seed):
        seeds = [None if seed is None else int(seed) + i for i in range(num_envs)]
    else:
        seeds = list(seed) if isinstance(seed, list | tuple | np.ndarray) else [seed]
    if not all(s is None or (is_integer(s) and s >= 0) for s in seeds):
        raise ValueError(f"seed: got {seed!r}, allowed are integers >= 0, one or one per row")
    if len(seeds) != num_envs:
        raise ValueError(f"seed: got {len(seeds)} seeds for {num_envs} environments")
    return [None if s is None else int(s) for s in seeds]


def seeded_generators(
    generators: list[np.random.Generator] | None,
    seed: int | Sequence[int | None] | None,
    mask: np.ndarray,
) -> list[np.random.Generator]:
    """One generator per row, those of the rows in `mask` seeded anew where a seed is given.

    Args:
        generators: those so far, None before the first reset.
        seed: see `row_seeds`; None leaves a generator as it is.
        mask: bool [B].

    Raises:
        ValueError: see `row_seeds`.
    """
    seeds = row_seeds(seed, len(mask))
    result = [seeding.np_random(None)[0] for _ in seeds] if generators is None else list(generators)
    for row in map(int, np.flatnonzero(mask)):
        if seeds[row] is not None:
            result[row] = seeding.np_random(seeds[row])[0]
    return result
