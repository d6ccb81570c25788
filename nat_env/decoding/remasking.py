"""What stays masked: the papers' rule, and what others are told of a step."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Drawn:
    """What a step has drawn, before it is said which positions stay masked."""

    tokens: Tensor
    """[B, N] int64, none masked."""
    masked: Tensor
    """Those that the step drew [B, N] bool; the others were known before."""
    scores: Tensor
    """Of those that were drawn [B, N], see `Sampling.scores`, +inf elsewhere."""
    allowed: Tensor
    """floor(N_0 m) of each sample [B], 0 at its last step."""
    actions: Tensor
    """m, tau_1, tau_2, w [B, 4], and after them what a sampler takes by sample."""
    uniforms: Tensor
    """[B, N, 2], of which those of known tokens have had no use."""


class Sampling(Protocol):
    """Says of a batch what stays masked, in place of the papers' rule; see `nat_env.samplers`."""

    state: dict[str, Tensor]
    """All that is the batch's or remembered of it, tensors [B, ...]: an environment, whose samples
    begin and end each by itself, keeps rows of them, and has a copy with other rows take a step."""

    def scores(
        self, logits: Tensor, tokens: Tensor, actions: Tensor, uniforms: Tensor, places: Tensor
    ) -> Tensor:
        """A number for each drawn token [M], at `places` [M] of the B * N, in one of some pieces.

        Args:
            logits: guided, not tempered [M, K].
            tokens: drawn [M].
            actions: [M, 4] or more, see `Drawn.actions`.
            uniforms: [M, 2].
            places: [M]; on an accelerator those of known tokens are among them.
        """
        ...

    def stays(self, drawn: Drawn) -> Tensor:
        """Which positions are masked after the step [B, N] bool, once all have scores.

        Of a sample that had nothing masked it has to be none; at the last step it has no effect.
        """
        ...


def confidences(logits: Tensor, tokens: Tensor, temperature: Tensor, uniforms: Tensor) -> Tensor:
    """Log softmax(logits)[token] + temperature * Gumbel noise, per row.

    Args:
        logits: guided, not tempered [M, K].
        tokens: drawn tokens [M].
        temperature: tau_2 per row [M].
        uniforms: [M] in [0, 1).
    """
    chosen = logits.gather(-1, tokens[:, None])[:, 0]
    return chosen - logits.logsumexp(dim=-1) + temperature * gumbel(uniforms)


def gumbel(uniforms: Tensor) -> Tensor:
    """Standard Gumbel noise from uniforms in [0, 1)."""
    tiny = torch.finfo(torch.float32).tiny
    return -torch.log(-torch.log(uniforms.clamp(tiny, 1 - 2**-24)))


def remask(
    confidence: Tensor, masked: Tensor, ratio: Tensor, unknown: Tensor | None = None
) -> Tensor:
    """Which positions stay masked: the least confident ones, by rank, so that ties are exact.

    Args:
        confidence: [B, N]; of known tokens it has no effect.
        masked: which tokens were masked [B, N] bool.
        ratio: m per sample [B] in [0, 1].
        unknown: N_0, tokens of each sample that were masked at its start [B]; by default all N.

    Returns:
        Mask [B, N] with min(currently masked, floor(N_0 m)) positions set in each row.

    Raises:
        ValueError: a masked token's confidence is NaN.
    """
    if bool((confidence.isnan() & masked).any()):
        raise ValueError("confidence: got NaN at a masked token, allowed are numbers")
    return lowest(confidence, masked, allowed_masked(confidence.shape[1], ratio, unknown))


def allowed_masked(num_tokens: int, ratio: Tensor, unknown: Tensor | None) -> Tensor:
    """floor(N_0 m) of each sample [B]."""
    return (ratio * (num_tokens if unknown is None else unknown)).floor().long()


def lowest(scores: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """The positions of the lowest scores, of equal ones the first, as a mask [B, N].

    Args:
        scores: [B, N], no NaN.
        among: which positions count [B, N] bool.
        count: how many of each row [B]; all of them where there are fewer.

    Example:
        >>> among = torch.tensor([[False, True, True, True]])
        >>> lowest(torch.tensor([[0.1, 0.4, 0.3, 0.3]]), among, torch.tensor([1]))
        tensor([[False, False,  True, False]])
    """
    largest = torch.finfo(scores.dtype).max  # so that the other positions come last
    sorted_by = torch.where(among, scores.clamp_max(largest), torch.inf)
    order = sorted_by.argsort(dim=1, stable=True)
    ranks = torch.empty_like(order)
    ranks.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    return among & (ranks < count[:, None])
