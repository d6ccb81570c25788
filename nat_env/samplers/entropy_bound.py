"""As many tokens at once as are nearly independent (EB-Sampler, Ben-Hamu et al. 2025)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nat_env.decoding.remasking import Drawn
from nat_env.frozen.nat import FrozenNAT
from nat_env.samplers.checks import check_number


@dataclass(frozen=True)
class EntropyBound:
    """Reveals, from the lowest entropy on, the most tokens U whose sum H - max H is <= gamma.

    That bounds what is lost by drawing the tokens of U apart, with the entropy as the measure of
    error. At least one token is revealed, and the last step reveals all: T is the most
    passes that it may take. m and tau_2 have no effect; entropies, in nats, are of what guidance
    gives, not tempered.
    """

    unused: ClassVar[tuple[str, ...]] = ("remask_ratio", "remask_temperature")

    gamma: float = 1.0

    def __post_init__(self) -> None:
        """Check gamma.

        Raises:
            ValueError: no finite number >= 0.
        """
        check_number("gamma", self.gamma)

    def begin(self, nat: FrozenNAT, free: Tensor, conditions: Tensor) -> "EntropyBound._Sampling":
        """See `Sampler`."""
        return EntropyBound._Sampling(self.gamma)

    class _Sampling:
        def __init__(self, gamma: float) -> None:
            self.gamma = gamma
            self.state: dict[str, Tensor] = {}

        def scores(
            self, logits: Tensor, tokens: Tensor, actions: Tensor, uniforms: Tensor, places: Tensor
        ) -> Tensor:
            return -torch.special.entr(logits.softmax(dim=-1)).sum(dim=-1)  # minus the entropy

        def stays(self, drawn: Drawn) -> Tensor:
            entropies = (-drawn.scores).masked_fill(~drawn.masked, torch.inf)  # [B, N]
            sorted_up, order = entropies.sort(dim=1, stable=True)
            # The largest of the first k is the k-th: the sum without it is that of those before.
            before = sorted_up.cumsum(dim=1).roll(1, dims=1)
            before[:, 0] = 0
            revealed = torch.empty_like(drawn.masked).scatter_(1, order, before <= self.gamma)
            return drawn.masked & ~revealed
