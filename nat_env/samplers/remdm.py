"""Known tokens are re-masked, and drawn again (ReMDM, Wang et al., NeurIPS 2025)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nat_env.decoding.quantities import Quantity
from nat_env.decoding.remasking import Drawn, confidences, gumbel, lowest
from nat_env.decoding.transition import REMASK_TEMPERATURE
from nat_env.frozen.nat import FrozenNAT
from nat_env.samplers.checks import check_number


@dataclass(frozen=True)
class ReMDM:
    """Of the tokens that earlier steps drew, a share eta is masked again: their sigma_t, capped.

    After a step floor(N m) tokens are masked, as ever, for re-masking leaves the marginals as they
    are: so many of the known ones, at most all that m allows, and the rest by confidence. Which
    known ones chance says, those of low probability rather (ReMDM-conf: weights exp(-p) of the
    probability p that a token had when it was drawn). A fifth column of the actions is eta itself.
    """

    quantities: ClassVar[tuple[Quantity, ...]] = (Quantity("eta", True, True),)

    eta: float = 0.1

    def __post_init__(self) -> None:
        """Check eta.

        Raises:
            ValueError: it is outside [0, 1].
        """
        check_number("eta", self.eta, 1)

    def begin(self, nat: FrozenNAT, free: Tensor, conditions: Tensor) -> "ReMDM._Sampling":
        """See `Sampler`."""
        return ReMDM._Sampling(self.eta, free)

    class _Sampling:
        def __init__(self, eta: float, free: Tensor) -> None:
            self.eta = eta
            nothing = torch.zeros(free.shape, device=free.device)
            self.state = {"free": free, "probability": nothing}
            """The probability is that which each token had when it was drawn [B, N]."""
            self.latest = nothing.flatten().clone()
            """Of this step's draws [B * N]: on an accelerator of known tokens, too, in vain."""

        def scores(
            self, logits: Tensor, tokens: Tensor, actions: Tensor, uniforms: Tensor, places: Tensor
        ) -> Tensor:
            likely = confidences(logits, tokens, torch.zeros_like(uniforms[:, 1]), uniforms[:, 1])
            self.latest[places] = likely.exp()
            return likely + actions[:, REMASK_TEMPERATURE] * gumbel(uniforms[:, 1])

        def stays(self, drawn: Drawn) -> Tensor:
            if bool((drawn.actions[:, 4:] > 1).any()):
                raise ValueError("actions: got an eta above 1, allowed is a share in [0, 1]")
            latest = self.latest.view_as(drawn.scores)
            probability = latest.where(drawn.masked, self.state["probability"])
            self.state["probability"] = probability
            going_on = drawn.masked.any(dim=1, keepdim=True)
            known = self.state["free"] & ~drawn.masked & going_on
            # The share of each sample, where it has one.
            eta = drawn.actions[:, 4] if drawn.actions.shape[1] > 4 else self.eta
            again = (eta * known.sum(dim=1)).floor().long().minimum(drawn.allowed)
            # Gumbel top-k: draws without replacement, by weights exp(-p).
            keys = probability - gumbel(drawn.uniforms[..., 1])
            remasked = lowest(keys, known, again)
            return remasked | lowest(drawn.scores, drawn.masked, drawn.allowed - again)
