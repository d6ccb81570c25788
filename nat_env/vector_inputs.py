"""What callers hand to the vector environment, checked: modes, actions, seeds, options, states.

And the table of the prompts that they ask for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.frozen.nat import FrozenNAT
from nat_env.rewards.protocol import Reward, tell_names
from nat_env.text.encoder import check_prompts

ROUNDING = 1e-6
"""What a wrapper that rescales actions in float32 may be off by: a few steps of it near 1."""


def checked_actions(actions: np.ndarray, num_envs: int) -> np.ndarray:
    """Actions as float32 [B, 4], clipped where they are beyond [-1, 1] by `ROUNDING` at most.

    Raises:
        ValueError: another shape, a value that is not finite or outside of [-1, 1].
    """
    array = np.array(actions, dtype=np.float32, order="C")  # torch takes no negative strides
    if array.shape != (num_envs, 4):
        raise ValueError(f"actions: got shape {array.shape}, allowed is ({num_envs}, 4)")
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


def chosen_prompts(options: dict[str, Any], num_envs: int) -> list[str] | None:
    """The prompts [B] that `options["prompt"]` asks for, None where it asks for none.

    Raises:
        ValueError: neither a text nor one per row, an empty one, or conditions beside them.

    Example:
        >>> chosen_prompts({"prompt": "a cat"}, 2)
        ['a cat', 'a cat']
    """
    given = options.get("prompt")
    if given is None:
        return None
    if options.get("condition") is not None:
        raise ValueError("prompt: allowed without condition, got both")
    prompts = [given] * num_envs if isinstance(given, str) else given
    if not isinstance(prompts, Sequence | np.ndarray) or len(prompts) != num_envs:
        raise ValueError(f"prompt: got {given!r}, allowed are a text or {num_envs} of them")
    check_prompts(prompts, "prompt")
    return list(map(str, prompts))


def check_state(state: dict[str, Any], num_envs: int, num_tokens: int, num_steps: int) -> None:
    """Check that a stored state is of an environment of these sizes.

    Raises:
        ValueError: it is not.
    """
    given = {name: tuple(state[name].shape) for name in ("ids", "conditions", "timesteps")}
    given["generators"] = (len(state["generators"]),)
    allowed = dict.fromkeys(given, (num_envs,)) | {"ids": (num_envs, num_tokens)}
    if given != allowed:
        raise ValueError(f"state: got sizes {given}, allowed are {allowed}")
    latest = int(state["timesteps"].max())
    if latest > num_steps:
        raise ValueError(f"state: got timesteps up to {latest}, allowed is T = {num_steps} at most")


def seeded_generators(
    generators: list[np.random.Generator] | None,
    seed: int | Sequence[int | None] | None,
    mask: np.ndarray,
) -> list[np.random.Generator]:
    """One generator per row, those of the rows in `mask` seeded anew where a seed is given.

    Args:
        generators: those so far, None before the first reset.
        seed: row i gets seed + i, or seed[i]; None leaves a generator as it is.
        mask: bool [B].

    Raises:
        ValueError: another number of seeds than rows.
    """
    num_envs = len(mask)
    if isinstance(seed, (int, np.integer)):
        seed = [int(seed) + i for i in range(num_envs)]
    if seed is not None and len(seed) != num_envs:
        raise ValueError(f"seed: got {len(seed)} seeds for {num_envs} environments")
    result = (
        [seeding.np_random(None)[0] for _ in range(num_envs)]
        if generators is None
        else list(generators)
    )
    if seed is not None:
        for row in map(int, np.flatnonzero(mask)):
            if seed[row] is not None:
                result[row] = seeding.np_random(seed[row])[0]
    return result


class PromptTable:
    """The table that an environment's conditions are numbers of.

    It has the rows of the environment's own bundle, and behind them the prompts of running episodes
    that the bundle does not have: those of episodes that have ended make room.
    """

    def __init__(self, own: Bundle, reward: Reward, shown: bool) -> None:
        """Begin with the bundle's own.

        Args:
            own: the environment's bundle.
            reward: is told the names of a table that grows, see `tell_names`.
            shown: whether observations have conditions, of the own table alone.
        """
        self.own = self.bundle = own
        self._reward = reward
        self._shown = shown

    @property
    def nat(self) -> FrozenNAT:
        """Knows all rows."""
        return self.bundle.nat

    @property
    def others(self) -> list[str]:
        """The prompts behind the bundle's own."""
        return list(self.bundle.conditions.names[len(self.own.conditions) :])

    def take(self, running: Tensor, starting: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Have these prompts in the table.

        Args:
            running: conditions of the rows that go on [R].
            starting: prompts of the rows that start, S of them.

        Returns:
            In the table that there is now, the conditions [R] and [S].

        Raises:
            ValueError: see `Bundle.with_prompts`, or a prompt of another table where observations
                have conditions; nothing has changed then.
        """
        names = self.bundle.conditions.names
        going_on = [names[number] for number in running.tolist()]
        if all(prompt in self.bundle.conditions.by_name for prompt in starting):
            table = self.bundle  # as it is: what it knows of first passes stays
        else:
            table = self.own.with_prompts([*going_on, *starting])
        if self._shown and table is not self.own:
            raise ValueError(
                "prompt: allowed are those of the bundle's own table with the observation "
                f"'tokens', which shows their numbers; got others: {list(starting)}"
            )
        self._use(table)
        numbers = torch.tensor([table.conditions.by_name[p] for p in (*going_on, *starting)])
        return numbers[: len(going_on)], numbers[len(going_on) :]

    def restore(self, others: Sequence[str]) -> None:
        """Have these `others`; none: the bundle's own table alone."""
        self._use(self.own.with_prompts(others) if others else self.own)

    def _use(self, table: Bundle) -> None:
        if table is not self.bundle:
            self.bundle = table
            tell_names(self._reward, table.conditions.names)
