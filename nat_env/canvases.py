"""Images that are decoded side by side, each begun when it will: what an environment is made of."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from nat_env.actions import ActionMap
from nat_env.decoding.transition import REMASK_RATIO, decode_step
from nat_env.episodes.inputs import completed_state, restored_generators
from nat_env.episodes.prompts import PromptTable
from nat_env.frozen.nat import Passes
from nat_env.frozen.transfers import sent
from nat_env.generation import draw_uniforms
from nat_env.samplers.rows import SamplerRows

_OF_ROWS = ("conditions", "timesteps", "unknown", "masked", "passes", "average")
"""Tensors of a row each, which say where it stands; with the ids, which are on the device."""


class Canvases:
    """B rows of tokens, where each stands, and the passes on them."""

    def __init__(
        self,
        table: PromptTable,
        action_map: ActionMap,
        num_rows: int,
        num_steps: int,
        aligned: bool,
        group_size: int,
    ) -> None:
        """Make rows, all of which have to be started first.

        Args:
            table: of the conditions.
            action_map: whose sampler is followed, and whose actions are averaged.
            num_rows: B.
            num_steps: T.
            aligned: see `NATDecodeVectorEnv`.
            group_size: likewise.
        """
        self.table = table
        self.num_steps = num_steps
        self.aligned = aligned
        self.group_size = group_size
        self.generators: list[np.random.Generator] | None = None
        """One per sub-environment: labels and uniforms are drawn from these alone."""
        nat = table.nat
        self.ids = torch.full((num_rows, nat.num_tokens), nat.mask_id, device=nat.device)
        """[B, N], on the device; of what else a row is, the host has no need to ask it."""
        self.conditions = torch.zeros(num_rows, dtype=torch.int64)
        self.timesteps = torch.zeros(num_rows, dtype=torch.int64)
        self.unknown = torch.full_like(self.timesteps, nat.num_tokens)
        """Tokens that were unknown at the start of each row's episode [B]: m is a share of them."""
        self.masked = self.unknown.clone()
        """Tokens that are masked [B]."""
        self.passes = torch.zeros_like(self.timesteps)
        """Of each row's episode so far [B]: each served a step, conditional and null pass as one.
        """
        self.average = torch.zeros(num_rows, len(action_map.names))
        """Of each row's actions so far [B, n], see `ActionMap.smoothed`."""
        self._sampler = SamplerRows(action_map.sampler, nat)
        self._passes: Passes | None = None

    @property
    def logits(self) -> Tensor:
        """[B, N, K], of the conditional pass on the ids; of finished rows, of an earlier pass."""
        if self._passes is None:
            raise gym.error.ResetNeeded("call reset() first")
        return self._passes.logits

    def state_dict(self) -> dict[str, Any]:
        """Where every row stands and what it will draw next; restored by `load_state_dict`.

        A reward that learns or keeps a buffer has a `state_dict` of its own, which is not in it.
        """
        if self.generators is None:
            raise gym.error.ResetNeeded("call reset() first")
        generators = [g.bit_generator.state for g in self.generators]
        tensors = {name: getattr(self, name) for name in ("ids", *_OF_ROWS)}
        begins = bool((self.timesteps == 0).all())  # and so does a sampler, which may be large
        sampler = {} if begins else self._sampler.state
        own = {"prompts": self.table.others, "sampler": sampler}
        return tensors | own | {"generators": generators}

    def _restore(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            ValueError: the state of an environment of other sizes; nothing has changed then.
        """
        (num_rows, num_tokens), mask_id = self.ids.shape, self.table.nat.mask_id
        shape, actions = (num_rows, num_tokens), self.average.shape[1]
        state = completed_state(state, shape, self.num_steps, mask_id, actions)
        sampler, begins = state.get("sampler", {}), bool((state["timesteps"] == 0).all())
        if not begins:
            sampler = self._sampler.checked(sampler, num_rows)
        self.table.restore(state.get("prompts", []))
        self.ids = state["ids"].to(self.table.nat.device)
        for name in _OF_ROWS:
            setattr(self, name, state[name].cpu())
        self.generators = restored_generators(state["generators"])
        if begins:
            rows = torch.arange(num_rows, device=self.ids.device)
            self._sampler.begin(rows, self.ids, self.conditions)
        else:
            self._sampler.state = sampler
        self._passes = self.table.nat.first_passes(self.conditions)
        begun = ((self.masked > 0) & (self.masked < num_tokens)).nonzero()[:, 0]
        if len(begun):
            at = sent(begun, self.table.nat.device)
            passes = self.table.nat.passes(self.ids[at], self.conditions[begun])
            self._passes = self._passes.put(begun, passes)

    def _start(self, rows: Tensor, labels: Tensor | None = None, ids: Tensor | None = None) -> None:
        """Put rows [R] on canvases [R, N], by default empty, with labels [R], by default drawn."""
        assert self.generators is not None
        nat = self.table.nat
        if self.group_size > 1:
            # All go on from where the one with the most passes is: no number is drawn twice.
            leaders = self.passes.view(-1, self.group_size).argmax(dim=1).tolist()
            for row in rows.tolist():
                group = row // self.group_size
                leader = self.generators[group * self.group_size + leaders[group]]
                self.generators[row].bit_generator.state = leader.bit_generator.state
        if labels is None:
            chosen = [self.generators[row] for row in rows.tolist()]
            labels = torch.tensor([int(g.integers(len(self.table.own.conditions))) for g in chosen])
        first = nat.opening_passes(labels, ids)
        unknown = torch.full((len(rows),), nat.num_tokens)
        if ids is None:
            ids = torch.full((len(rows), nat.num_tokens), nat.mask_id, device=nat.device)
        else:
            unknown = (ids == nat.mask_id).sum(dim=1).cpu()
        at = sent(rows, nat.device)
        self._sampler.begin(at, ids, labels)
        self.conditions = self.conditions.index_copy(0, rows, labels.cpu())
        self.timesteps = self.timesteps.index_fill(0, rows, 0)
        self.ids = self.ids.index_copy(0, at, ids)
        self.unknown = self.unknown.index_copy(0, rows, unknown)
        self.masked = self.masked.index_copy(0, rows, unknown)
        self.passes = self.passes.index_fill(0, rows, 0)
        self._passes = first if self._passes is None else self._passes.put(rows, first)

    def _decode(self, unfinished: Tensor, physical: Tensor) -> None:
        """The transition of rows, bool [B], and the pass on what it gave where any are masked."""
        decoded = unfinished & (self.masked > 0)
        timesteps, masked = self.timesteps + unfinished.long(), self.masked
        rows = decoded.nonzero()[:, 0]
        if len(rows):
            masked = masked.index_copy(0, rows, self._transition(rows, physical[rows]))
        if not self.aligned:
            timesteps = timesteps.masked_fill(unfinished & (masked == 0), self.num_steps)
        self.masked, self.timesteps = masked, timesteps  # only after what was not refused
        self.passes = self.passes + decoded.long()

    def _transition(self, rows: Tensor, physical: Tensor) -> Tensor:
        """Decode rows [R] by quantities [R, 4] or more; gives how many are masked then [R]."""
        assert self._passes is not None and self.generators is not None
        nat = self.table.nat
        uniforms = draw_uniforms([self.generators[row] for row in rows.tolist()], nat.num_tokens)
        logits, null_logits, _ = self._passes.rows(rows)
        last = self.timesteps[rows] == self.num_steps - 1
        given = torch.cat([physical, last[:, None], self.unknown[rows][:, None]], dim=1)
        given, at = sent(given, nat.device), sent(rows, nat.device)
        actions, ended, unknown = given[:, :-2], given[:, -2] > 0, given[:, -1]
        sampling = self._sampler.take(at)
        after, _ = decode_step(
            self.ids[at], logits, null_logits, actions, sent(uniforms, nat.device), ended,
            nat.mask_id, unknown, sampling,
        )  # fmt: skip
        if sampling is not None:
            masked = (after == nat.mask_id).sum(dim=1).cpu()
        else:  # as the transition works it out: nothing waits for the device
            share = physical[:, REMASK_RATIO].masked_fill(last, 0.0)
            masked = self.masked[rows].minimum((share * self.unknown[rows]).floor().long())
        ids = self.ids.index_copy(0, at, after)
        again = rows[masked > 0]
        if len(again):
            passes = nat.passes(ids[sent(again, nat.device)], self.conditions[again])
            self._passes = self._passes.put(again, passes)
        self.ids = ids  # only after a pass that was not refused
        self._sampler.keep(at, sampling)
        return masked
