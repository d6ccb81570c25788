"""Scores of one's own for what stays masked (Token-Critic, Lezama et al., ECCV 2022)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nat_env.decoding.remasking import Drawn, gumbel, lowest
from nat_env.decoding.transition import REMASK_TEMPERATURE
from nat_env.frozen.nat import FrozenNAT


@dataclass(frozen=True)
class Scored:
    """The tokens of the lowest scores are masked, known ones among them, as many as m says.

    Example:
        >>> from nat_env import ScheduledPolicy, generate, heuristic_schedule, load_bundle
        >>> def critic(tokens, conditions):
        ...     return tokens.float()  # a network's judgement of every token, [B, N]
        >>> policy = ScheduledPolicy(heuristic_schedule(4).by(Scored(critic)))
        >>> generate(load_bundle("digits"), policy, [3], num_steps=4, seed=0).shape
        torch.Size([1, 1, 8, 8])
    """

    score: Callable[[Tensor, Tensor], Tensor]
    """Tokens [B, N], all drawn, and labels [B] -> [B, N], higher for what should stay. tau_2 Gumbel
    noise is added."""

    def begin(self, nat: FrozenNAT, free: Tensor, conditions: Tensor) -> "Scored._Sampling":
        """See `Sampler`."""
        return Scored._Sampling(self.score, free, conditions)

    class _Sampling:
        def __init__(
            self, score: Callable[[Tensor, Tensor], Tensor], free: Tensor, conditions: Tensor
        ) -> None:
            self.score = score
            self.state = {"free": free, "conditions": conditions}

        def scores(
            self, logits: Tensor, tokens: Tensor, actions: Tensor, uniforms: Tensor, places: Tensor
        ) -> Tensor:
            return torch.zeros_like(uniforms[:, 1])

        def stays(self, drawn: Drawn) -> Tensor:
            found = self.score(drawn.tokens.clone(), self.state["conditions"])
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            if shape != tuple(drawn.tokens.shape) or bool(found.isnan().any()):
                raise ValueError(
                    f"score: got {shape} or a NaN, allowed is a tensor {tuple(drawn.tokens.shape)} "
                    "of numbers"
                )
            temperature = drawn.actions[:, REMASK_TEMPERATURE, None]
            noisy = found.float() + temperature * gumbel(drawn.uniforms[..., 1])
            going_on = drawn.masked.any(dim=1, keepdim=True)
            return lowest(noisy, self.state["free"] & going_on, drawn.allowed)
