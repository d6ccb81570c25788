"""What a sampler remembers of samples that begin and end each by itself, as an environment's do."""

from collections.abc import Mapping

import torch
from torch import Tensor

from nat_env.decoding.remasking import Sampling
from nat_env.frozen.nat import FrozenNAT
from nat_env.samplers.protocol import Sampler


class SamplerRows:
    """A sampler's state for B rows, of which some begin or take a step at a time.

    Without a sampler there is none, and what is given for a step is None: the papers' rule.
    """

    def __init__(self, sampler: Sampler | None, nat: FrozenNAT) -> None:
        """Of B rows, all of which have to begin first."""
        self.sampler = sampler
        self.nat = nat
        self.state: dict[str, Tensor] = {}
        """[B, ...] each, on the device; see `Sampling.state`."""

    def begin(self, rows: Tensor, free: Tensor, conditions: Tensor) -> None:
        """Forget what rows [R] were; all on the device, and see `Sampler.begin` of the others."""
        if self.sampler is not None:
            self.keep(rows, self.sampler.begin(self.nat, free, conditions))

    def take(self, rows: Tensor, masked: Tensor, conditions: Tensor) -> Sampling | None:
        """A batch of rows [R], as they are after their latest step; `keep` it once they took one.

        Args:
            rows: on the device, as all.
            masked: now [R, N] bool: what was at the start is in the state, where it matters.
            conditions: labels [R].
        """
        if self.sampler is None:
            return None
        sampling = self.sampler.begin(self.nat, masked, conditions)
        sampling.state.update({name: kept[rows] for name, kept in self.state.items()})
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
        allowed = {}
        if self.sampler is not None:
            free = torch.zeros(0, self.nat.num_tokens, dtype=torch.bool, device=self.nat.device)
            of_none = self.sampler.begin(self.nat, free, free[:, 0].long()).state
            allowed = {name: (num_rows, *of.shape[1:]) for name, of in of_none.items()}
        given = {name: tuple(of.shape) for name, of in state.items()}
        if given != allowed:
            raise ValueError(f"state: got a sampler's {given}, allowed is {allowed}")
        return {name: of.to(self.nat.device) for name, of in state.items()}
