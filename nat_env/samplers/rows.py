"""What a sampler remembers of samples that begin and end each by itself, as an environment's do."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from nat_env.decoding.remasking import Sampling
from nat_env.frozen.nat import FrozenNAT
from nat_env.frozen.transfers import sent
from nat_env.samplers.protocol import Sampler


class SamplerRows:
    """A sampler's state for B rows, of which some begin or take a step at a time.

    Without a sampler there is none, and what is given for a step is None: the papers' rule.
    """

    def __init__(self, sampler: Sampler | None, nat: FrozenNAT) -> None:
        """Of B rows, all of which have to begin first.

        Raises:
            ValueError: the sampler is not for this transformer.
        """
        self._sampler = sampler
        self._nat = nat
        self._of_none = None
        if sampler is not None:
            nobody = torch.zeros(0, nat.num_tokens, dtype=torch.int64, device=nat.device)
            self._of_none = self._begun(nobody, nobody[:, 0])
        self.state: dict[str, Tensor] = {}
        """[B, ...] each, on the device; see `Sampling.state`."""

    def _begun(self, ids: Tensor, conditions: Tensor) -> Sampling | None:
        if self._sampler is None:
            return None
        labels = sent(conditions, self._nat.device)
        return self._sampler.begin(self._nat, ids == self._nat.mask_id, labels)

    def begin(self, rows: Tensor, ids: Tensor, conditions: Tensor) -> None:
        """Forget what rows [R] were, which have ids [R, N] and labels [R] now."""
        self.keep(rows, self._begun(ids, conditions))

    def take(self, rows: Tensor) -> Sampling | None:
        """A batch of rows [R] after their latest step; `keep` it once they took another."""
        sampling = copy.copy(self._of_none)
        if sampling is not None:
            sampling.state = {name: kept[rows] for name, kept in self.state.items()}
        return sampling

    def keep(self, rows: Tensor, sampling: Sampling | None) -> None:
        """Remember what `take` gave, after its step."""
        if sampling is not None:
            self.state = {
                name: self.state[name].index_copy(0, rows, of_rows) if self.state else of_rows
                for name, of_rows in sampling.state.items()
            }

    def checked(self, state: Mapping[str, Tensor], num_rows: int) -> dict[str, Tensor]:
        """A stored `state` of B = `num_rows` rows, on the device.

        Raises:
            ValueError: it is of another sampler, or of other sizes.
        """
        of_none = {} if self._of_none is None else self._of_none.state
        allowed = {name: (num_rows, *of.shape[1:]) for name, of in of_none.items()}
        given = {name: tuple(of.shape) for name, of in state.items()}
        if given != allowed:
            raise ValueError(f"state: got a sampler's {given}, allowed is {allowed}")
        return {name: of.to(self._nat.device) for name, of in state.items()}
