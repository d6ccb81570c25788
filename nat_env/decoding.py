"""One decoding step of a frozen NAT as pure functions on tensors (AdaNAT, section 3.2).

Where the paper and its released code differ, the code is followed: the number of tokens that stay
masked is floor(N m), and the confidence is not tempered by the sampling temperature.
Everything random is an argument: two uniforms in [0, 1) per token and step.
"""

import torch
from torch import Tensor

REMASK_RATIO, SAMPLING_TEMPERATURE, REMASK_TEMPERATURE, GUIDANCE_SCALE = range(4)
"""Columns of an action [B, 4]: m, tau_1, tau_2, w (Eq. 5)."""

_SMALLEST_TEMPERATURE = 1e-6
"""Below this, sampling is the arg max; keeps (logit - max) / temperature finite in float32."""

LOGITS_AT_ONCE = {"cpu": 2**20}
"""Guided and sampled in one piece, by device: half the time on a CPU where they fit its caches."""


def guide(logits: Tensor, null_logits: Tensor, scale: Tensor) -> Tensor:
    """Classifier-free guidance: `logits + scale * (logits - null_logits)`.

    A scale of 0 means none. (diffusers' `guidance_scale` is 1 + this scale.)

    Args:
        logits: of the conditional pass [M, K].
        null_logits: of the pass with the null condition [M, K].
        scale: w per row [M].
    """
    return torch.lerp(null_logits, logits, 1 + scale[:, None])


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
    threshold = uniforms[:, None] * cdf[:, -1:]
    tokens = torch.searchsorted(cdf, threshold, right=True)[:, 0]
    return tokens.clamp_max(logits.shape[-1] - 1)


def confidences(logits: Tensor, tokens: Tensor, temperature: Tensor, uniforms: Tensor) -> Tensor:
    """Log softmax(logits)[token] + temperature * Gumbel noise, per row.

    Args:
        logits: guided, not tempered [M, K].
        tokens: drawn tokens [M].
        temperature: tau_2 per row [M].
        uniforms: [M] in [0, 1).
    """
    chosen = logits.gather(-1, tokens[:, None])[:, 0]
    log_likelihood = chosen - logits.logsumexp(dim=-1)
    tiny = torch.finfo(torch.float32).tiny
    gumbel = -torch.log(-torch.log(uniforms.clamp(tiny, 1 - 2**-24)))
    return log_likelihood + temperature * gumbel


def remask(confidence: Tensor, ratio: Tensor) -> Tensor:
    """Which positions stay masked: the least confident ones, by rank, so that ties are exact.

    Args:
        confidence: [B, N], +inf at known tokens.
        ratio: m per sample [B] in [0, 1].

    Returns:
        Mask [B, N] with min(currently masked, floor(N m)) positions set in each row.
    """
    num_tokens = confidence.shape[1]
    masked = confidence.isfinite()
    allowed = (ratio * num_tokens).floor().long()  # [B]
    order = confidence.argsort(dim=1, stable=True)
    ranks = torch.empty_like(order)
    ranks.scatter_(1, order, torch.arange(num_tokens, device=order.device).expand_as(order))
    return masked & (ranks < allowed[:, None])


def decode_step(
    ids: Tensor, logits: Tensor, null_logits: Tensor, actions: Tensor, uniforms: Tensor,
    last: Tensor, mask_id: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The transition v(t) -> v(t+1) of Eq. 6. Known tokens are never changed.

    Args:
        ids: tokens [B, N] int64, `mask_id` where masked.
        logits: of the conditional pass on `ids` [B, N, K].
        null_logits: of the pass with the null condition [B, N, K].
        actions: m, tau_1, tau_2, w per sample [B, 4].
        uniforms: [B, N, 2] in [0, 1): the first draws the token, the second its Gumbel noise.
        last: [B] bool; where set, every token is revealed and m, tau_2 have no effect.
        mask_id: the id of a masked token.

    Returns:
        The next ids [B, N], and the confidences [B, N] by which they were re-masked, +inf at tokens
        known before.
    """
    num_tokens, codebook_size = logits.shape[1:]
    places = (ids == mask_id).flatten().nonzero()[:, 0]  # [M] of B * N
    logits, null_logits = logits.flatten(0, 1), null_logits.flatten(0, 1)  # [B * N, K]
    revealed = ids.flatten().clone()  # [B * N]
    confidence = torch.full(revealed.shape, torch.inf, device=ids.device)
    actions, uniforms = actions.float(), uniforms.flatten(0, 1)  # [B, 4], [B * N, 2]
    piece = LOGITS_AT_ONCE.get(ids.device.type, 2**26) // codebook_size
    for at in places.split(max(1, piece)):
        action, uniform = actions[at // num_tokens], uniforms[at]  # [m, 4], [m, 2]
        scale = action[:, GUIDANCE_SCALE]
        guided = guide(logits[at].float(), null_logits[at].float(), scale)
        tokens = sample_tokens(guided, action[:, SAMPLING_TEMPERATURE], uniform[:, 0])
        revealed[at] = tokens
        temperature = action[:, REMASK_TEMPERATURE]
        confidence[at] = confidences(guided, tokens, temperature, uniform[:, 1])

    confidence = confidence.view_as(ids)
    ratio = actions[:, REMASK_RATIO].masked_fill(last, 0.0)
    return revealed.view_as(ids).masked_fill(remask(confidence, ratio), mask_id), confidence
