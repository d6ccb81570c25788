"""Confidences to which a policy adds a number for each token: decisions by position."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from nat_env.decoding.quantities import Quantity
from nat_env.decoding.remasking import Drawn, confidences, lowest
from nat_env.decoding.transition import REMASK_TEMPERATURE
from nat_env.frozen.nat import FrozenNAT


@dataclass(frozen=True)
class ConfidenceMap:
    """The papers' rule, after a map over the tokens is added to the confidences.

    The map is what a policy decides at each step: columns of the actions after the four, one for
    each token in the order of the tokens, in nats as the confidences are. Zero, as without a policy
    that decides it, is the papers' rule.
    """

    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("confidence_map", "identity", is_idle_at_last=True, of_tokens=True),
    )

    confidence_map: ClassVar[float] = 0.0
    """Where no policy decides it."""

    def begin(self, nat: FrozenNAT, free: Tensor, conditions: Tensor) -> "ConfidenceMap._Sampling":
        """See `Sampler`."""
        return ConfidenceMap._Sampling(nat.num_tokens)

    class _Sampling:
        def __init__(self, num_tokens: int) -> None:
            self.num_tokens = num_tokens
            self.state: dict[str, Tensor] = {}

        def scores(
            self, logits: Tensor, tokens: Tensor, actions: Tensor, uniforms: Tensor, places: Tensor
        ) -> Tensor:
            found = confidences(logits, tokens, actions[:, REMASK_TEMPERATURE], uniforms[:, 1])
            if (more := actions.shape[1] - 4) == 0:  # no policy decides it
                return found
            if more != self.num_tokens:
                raise ValueError(
                    f"actions: got {more} numbers after the four, allowed is one for each of "
                    f"{self.num_tokens} tokens"
                )
            return found + actions.gather(1, 4 + places[:, None] % self.num_tokens)[:, 0]

        def stays(self, drawn: Drawn) -> Tensor:
            return lowest(drawn.scores, drawn.masked, drawn.allowed)
