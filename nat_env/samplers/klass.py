"""All tokens that are certain and no longer change (KLASS, Kim et al., NeurIPS 2025)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nat_env.decoding.remasking import Drawn, lowest
from nat_env.frozen.nat import FrozenNAT
from nat_env.samplers.checks import check_number


@dataclass(frozen=True)
class Klass:
    """Reveals every token that is certain and stable; where none is, the most probable ones.

    Certain: its most likely code has a probability above `confidence`. Stable: its distribution has
    moved by a KL divergence below `divergence` in each of the last `history` steps. Where a sample
    has no such token, as many are revealed as m says, and one at least. tau_2 has no effect;
    probabilities are of what guidance gives, not tempered.
    """

    unused: ClassVar[tuple[str, ...]] = ("remask_temperature",)

    confidence: float = 0.9
    divergence: float = 0.01
    history: int = 1
    """Their code has 2, for texts and many more steps."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: a confidence outside [0, 1], a divergence below 0, or a history that is no
                whole number >= 1.
        """
        check_number("confidence", self.confidence, 1)
        check_number("divergence", self.divergence)
        if not isinstance(self.history, int) or self.history < 1:
            raise ValueError(f"history: got {self.history!r}, allowed is a whole number >= 1")

    def begin(self, nat: FrozenNAT, free: Tensor, conditions: Tensor) -> "Klass._Sampling":
        """See `Sampler`."""
        return Klass._Sampling(self, free, nat.codebook_size)

    class _Sampling:
        def __init__(self, numbers: "Klass", free: Tensor, codes: int) -> None:
            self.numbers = numbers
            shape, device = (*free.shape, codes), free.device
            self.state = {
                # Of the latest step [B, N, K]; before the first one nothing is likely.
                "log_p": torch.full(shape, -torch.inf, device=device),
                # Steps since a place's distribution has moved [B, N].
                "stable_for": torch.zeros(free.shape, dtype=torch.int64, device=device),
            }

        def scores(
            self, logits: Tensor, tokens: Tensor, actions: Tensor, uniforms: Tensor, places: Tensor
        ) -> Tensor:
            log_p = self.state["log_p"].flatten(0, 1)  # [B * N, K]
            stable_for = self.state["stable_for"].flatten()  # [B * N]
            now, before = logits.log_softmax(dim=-1), log_p[places]
            terms = now.exp() * (now - before)  # of KL(now || before)
            moved = terms.masked_fill(now.isneginf(), 0.0).sum(dim=-1)
            stable = moved < self.numbers.divergence
            stable_for[places] = (stable_for[places] + 1).where(stable, 0)
            log_p[places] = now
            return now.amax(dim=-1).exp()

        def stays(self, drawn: Drawn) -> Tensor:
            sure = drawn.scores > self.numbers.confidence
            stable = self.state["stable_for"] >= self.numbers.history
            ready = drawn.masked & sure & stable
            # Where none is ready: as the schedule has it, but for one at least.
            most = (drawn.masked.sum(dim=1) - 1).clamp_min(0)
            scheduled = lowest(drawn.scores, drawn.masked, drawn.allowed.minimum(most))
            return torch.where(ready.any(dim=1, keepdim=True), drawn.masked & ~ready, scheduled)
