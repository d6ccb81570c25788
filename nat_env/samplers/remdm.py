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

    quantities: ClassVar[tuple[Quantity, ...]] = (Quantity("eta", "sigmoid", is_idle_at_last=True),)

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
            self.state = {
                "free": free,
                # That each token had when it was drawn [B, N].
                "probability": nothing,
                # Of this step's draws [B, N]: on an accelerator of known tokens, too, in vain.
                "latest": nothing.clone(),
            }

        def scores(
            self, logits: Tensor, tokens: Tensor, actions: Tensor, uniforms: Tensor, places: Tensor
        ) -> Tensor:
            likely = confidences(logits, tokens, torch.zeros_like(uniforms[:, 1]), uniforms[:, 1])
            self.state["latest"].flatten()[places] = likely.exp()
            return likely + actions[:, REMASK_TEMPERATURE] * gumbel(uniforms[:, 1])

        def stays(self, drawn: Drawn) -> Tensor:
            probability = self.state["latest"].where(drawn.masked, self.state["probability"])
            self.state["probability"] = probability
            going_on = drawn.masked.any(dim=1, keepdim=True)
            known = self.state["free"] & ~drawn.masked & going_on
            again = (self._share(drawn.actions) * known.sum(dim=1)).floor().long()
            again = again.minimum(drawn.allowed)
            # Gumbel top-k: draws without replacement, by weights exp(-p).
            keys = probability - gumbel(drawn.uniforms[..., 1])
            remasked = lowest(keys, known, again)
            return remasked | lowest(drawn.scores, drawn.masked, drawn.allowed - again)

        def _share(self, actions: Tensor) -> Tensor | float:
            """Of each sample [B], where it has one."""
            if actions.shape[1] == 4:
                return self.eta
            shares = actions[:, 4]
            out = shares[(shares < 0) | (shares > 1)]
            if len(out):
                raise ValueError(f"actions: got eta = {out[0]:g}, allowed is [0, 1]")
            return shares
