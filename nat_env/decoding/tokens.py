"""Drawing tokens."""

import torch
from torch import Tensor

_SMALLEST_TEMPERATURE = 1e-6
"""Below this, sampling is the arg max; keeps (logit - max) / temperature finite in float32."""


def sample_tokens(logits: Tensor, temperature: Tensor, uniforms: Tensor) -> Tensor:
    """Draw a token per row from softmax(logits / temperature) by the inverse of its CDF.

    Args:
        logits: [M, K].
        temperature: tau_1 per row [M], >= 0; at 0 the arg max.
        uniforms: [M] in [0, 1).

    Returns:
        Tokens [M] int64.
    """
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    scaled = shifted / temperature.clamp_min(_SMALLEST_TEMPERATURE)[:, None]
    cdf = scaled.exp_().cumsum_(dim=-1)  # [M, K], not normalised
    total = cdf[:, -1:]
    # Below the total, to which the product may round: above it lie codes of probability 0 alone.
    threshold = (uniforms[:, None] * total).minimum(total.nextafter(torch.zeros_like(total)))
    found = torch.searchsorted(cdf, threshold, right=True)[:, 0]
    return found.clamp_max(logits.shape[1] - 1)  # of NaN: a token, until the caller is told
