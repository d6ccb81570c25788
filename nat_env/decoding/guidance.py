"""Classifier-free guidance."""

import torch
from torch import Tensor


def guide(logits: Tensor, null_logits: Tensor, scale: Tensor) -> Tensor:
    """Classifier-free guidance: `logits + scale * (logits - null_logits)`.

    A scale of 0 means none. (diffusers' `guidance_scale` is 1 + this scale.) A code that either
    pass forbids, by -inf, is forbidden.

    Args:
        logits: of the conditional pass [M, K].
        null_logits: of the pass with the null condition [M, K].
        scale: w per row [M].

    Raises:
        ValueError: logits that are NaN or +inf, before or after, or a row without a code that is
            allowed.

    Example:
        >>> minus = -torch.inf
        >>> guide(torch.tensor([[2.0, minus]]), torch.tensor([[1.0, 0.0]]), torch.tensor([3.0]))
        tensor([[5., -inf]])
    """
    guided = lerp(logits, null_logits, scale)
    # Whatever is not finite on either side makes the sum so: one cheap pass where all is well.
    if bool(guided.sum().isfinite()):
        return guided
    return _guided_where_allowed(guided, logits, null_logits)


def _guided_where_allowed(guided: Tensor, logits: Tensor, null_logits: Tensor) -> Tensor:
    """What `guide` gives where not all is finite."""
    for name, given in (("logits", logits), ("null_logits", null_logits)):
        if bool((given.isnan() | given.isposinf()).any()):
            raise ValueError(f"{name}: got NaN or +inf, allowed are numbers, and -inf at codes")
    forbidden = logits.isneginf() | null_logits.isneginf()
    guided = guided.masked_fill(forbidden, -torch.inf)
    if not bool(guided.amax(dim=-1).isfinite().all()):
        raise ValueError(
            "logits: got a row of -inf alone, or beyond float32 once guided; allowed is at least "
            "one code, with a finite number"
        )
    return guided


def lerp(logits: Tensor, null_logits: Tensor, scale: Tensor) -> Tensor:
    """`guide` where all is finite."""
    return torch.lerp(null_logits, logits, 1 + scale[:, None])
