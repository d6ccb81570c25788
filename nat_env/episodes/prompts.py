"""Prompts that episodes are started with: an environment's own table, and what is behind it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.frozen.nat import FrozenNAT
from nat_env.rewards.protocol import Reward, tell_names
from nat_env.text.encoder import check_prompts


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
    prompts = list(prompts)
    check_prompts(prompts, "prompt")
    return prompts


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
                have conditions or the reward knows no others; nothing has changed then.
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

    def started(
        self, conditions: Tensor, mask: np.ndarray, prompts: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Have the prompts of an environment's rows that start.

        Args:
            conditions: of all rows [B].
            mask: those that start [B] bool.
            prompts: of those that start, S of them.

        Returns:
            In the table that there is now, the conditions of all rows [B], where those that start
            have still their old ones, and of those that start [S].

        Raises:
            ValueError: see `take`.
        """
        going_on = torch.from_numpy(np.flatnonzero(~mask)).to(conditions.device)
        renumbered, starting = self.take(conditions[going_on], prompts)
        return conditions.index_copy(0, going_on, renumbered.to(conditions.device)), starting

    def restore(self, others: Sequence[str]) -> None:
        """Have these `others`; none: the bundle's own table alone."""
        self._use(self.own.with_prompts(others) if others else self.own)

    def _use(self, table: Bundle) -> None:
        if table is not self.bundle:
            tell_names(self._reward, table.conditions.names)  # which may refuse
            self.bundle = table
