"""One decoding step of a frozen NAT as pure functions on tensors (AdaNAT, section 3.2).

Where the paper and its released code differ, the code is followed: the number of tokens that stay
masked is floor(N m), and the confidence is not tempered by the sampling temperature. Of an image
that is partly known, N counts the tokens that were not (as in MaskGIT's code).
Everything random is an argument: two uniforms in [0, 1) per token and step.
"""

from collections.abc import Callable

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
    guided = _lerp(logits, null_logits, scale)
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
    return _remasked(confidence, masked, ratio, unknown)


def _remasked(confidence: Tensor, masked: Tensor, ratio: Tensor, unknown: Tensor | None) -> Tensor:
    num_tokens = confidence.shape[1]
    allowed = (ratio * (num_tokens if unknown is None else unknown)).floor().long()  # [B]
    largest = torch.finfo(confidence.dtype).max  # so that known tokens come last
    sorted_by = torch.where(masked, confidence.clamp_max(largest), torch.inf)
    order = sorted_by.argsort(dim=1, stable=True)
    ranks = torch.empty_like(order)
    ranks.scatter_(1, order, torch.arange(num_tokens, device=order.device).expand_as(order))
    return masked & (ranks < allowed[:, None])


def check_quantities(actions: Tensor, batch: int) -> None:
    """Check m, tau_1, tau_2, w [B, 4].

    Raises:
        ValueError: no tensor or another shape, a number that is not finite, m outside [0, 1] or
            another quantity below 0.
    """
    _check_shape(actions, batch)
    allowed = _allowed(actions)
    if not bool(allowed.all()):
        row = actions[int((~allowed.all(dim=1)).nonzero()[0, 0])].tolist()
        raise ValueError(
            f"actions: got m, tau_1, tau_2, w = {row}, allowed are finite numbers, m in [0, 1] and "
            "the others >= 0"
        )


def _check_shape(actions: Tensor, batch: int) -> None:
    shape = tuple(actions.shape) if isinstance(actions, Tensor) else type(actions).__name__
    if shape != (batch, 4):
        raise ValueError(f"actions: got {shape}, allowed is a tensor ({batch}, 4)")


def _allowed(actions: Tensor) -> Tensor:
    """Which of m, tau_1, tau_2, w [B, 4] are in their ranges."""
    allowed = (actions >= 0) & actions.isfinite()
    allowed[:, REMASK_RATIO] &= actions[:, REMASK_RATIO] <= 1
    return allowed


def decode_step(
    ids: Tensor, logits: Tensor, null_logits: Tensor, actions: Tensor, uniforms: Tensor,
    last: Tensor, mask_id: int, unknown: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The transition v(t) -> v(t+1) of Eq. 6. Known tokens are never changed.

    An accelerator is waited for once, where all is well.

    Args:
        ids: tokens [B, N] int64, `mask_id` where masked.
        logits: of the conditional pass on `ids` [B, N, K].
        null_logits: of the pass with the null condition [B, N, K].
        actions: m, tau_1, tau_2, w per sample [B, 4].
        uniforms: [B, N, 2] in [0, 1): the first draws the token, the second its Gumbel noise.
        last: [B] bool; where set, every token is revealed and m, tau_2 have no effect.
        mask_id: the id of a masked token.
        unknown: see `remask`.

    Returns:
        The next ids [B, N], and the confidences [B, N] by which they were re-masked, +inf at tokens
        known before.

    Raises:
        ValueError: actions or uniforms out of range, or see `guide`; nothing was changed.
    """
    _check_shape(actions, len(ids))
    drawn = _allowed(actions).all() & ((uniforms >= 0) & (uniforms < 1)).all()
    arguments = ids, logits, null_logits, actions, uniforms, last, mask_id, unknown
    after, confidence, total = _transition(*arguments, guided=_lerp)
    if bool(drawn & total.isfinite()):
        return after, confidence
    check_quantities(actions, len(ids))
    if not bool(((uniforms >= 0) & (uniforms < 1)).all()):
        raise ValueError("uniforms: got a number that is not in [0, 1), or NaN")
    after, confidence, _ = _transition(*arguments, guided=guide)
    return after, confidence


def _transition(
    ids: Tensor, logits: Tensor, null_logits: Tensor, actions: Tensor, uniforms: Tensor,
    last: Tensor, mask_id: int, unknown: Tensor | None,
    guided: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """What `decode_step` gives, and the sum of all that was guided."""
    num_tokens, codebook_size = logits.shape[1:]
    masked = ids == mask_id
    logits, null_logits = logits.flatten(0, 1), null_logits.flatten(0, 1)  # [B * N, K]
    revealed = ids.flatten().clone()  # [B * N]
    confidence = torch.full(revealed.shape, torch.inf, dtype=torch.float32, device=ids.device)
    total = torch.zeros((), device=ids.device)
    actions, uniforms = actions.float(), uniforms.flatten(0, 1)  # [B, 4], [B * N, 2]
    piece = LOGITS_AT_ONCE.get(ids.device.type, 2**26) // codebook_size
    for at in _places(masked).split(max(1, piece)):
        action, uniform = actions[at // num_tokens], uniforms[at]  # [m, 4], [m, 2]
        scores = guided(logits[at].float(), null_logits[at].float(), action[:, GUIDANCE_SCALE])
        total = total + scores.sum()
        tokens = sample_tokens(scores, action[:, SAMPLING_TEMPERATURE], uniform[:, 0])
        revealed[at] = tokens
        temperature = action[:, REMASK_TEMPERATURE]
        confidence[at] = confidences(scores, tokens, temperature, uniform[:, 1])

    confidence = confidence.view_as(ids).masked_fill(~masked, torch.inf)
    ratio = actions[:, REMASK_RATIO].masked_fill(last, 0.0)
    stays = _remasked(confidence, masked, ratio, unknown)
    after = torch.where(masked, revealed.view_as(ids), ids).masked_fill(stays, mask_id)
    return after, confidence, total


def _places(masked: Tensor) -> Tensor:
    """Places [M] of the B * N where a token is to be drawn: on an accelerator all.

    How many are masked only the accelerator knows: to ask it costs more than to draw in vain.
    """
    if masked.device.type == "cpu":
        return masked.flatten().nonzero()[:, 0]
    return torch.arange(masked.numel(), device=masked.device)


def _lerp(logits: Tensor, null_logits: Tensor, scale: Tensor) -> Tensor:
    """`guide` where all is finite."""
    return torch.lerp(null_logits, logits, 1 + scale[:, None])
