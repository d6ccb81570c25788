"""One decoding step of a frozen NAT as pure functions on tensors (AdaNAT, section 3.2).

Where the paper and its released code differ, the code is followed: the number of tokens that stay
masked is floor(N m), and the confidence is not tempered by the sampling temperature. Of an image
that is partly known, N counts the tokens that were not (as in MaskGIT's code).
Everything random is an argument: two uniforms in [0, 1) per token and step.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from nat_env.decoding.guidance import guide, lerp
from nat_env.decoding.remasking import Drawn, Sampling, allowed_masked, confidences, lowest
from nat_env.decoding.tokens import sample_tokens

REMASK_RATIO, SAMPLING_TEMPERATURE, REMASK_TEMPERATURE, GUIDANCE_SCALE = range(4)
"""Columns of an action [B, 4]: m, tau_1, tau_2, w, see `nat_env.decoding.quantities`."""

LOGITS_AT_ONCE = {"cpu": 2**20}
"""Guided and sampled in one piece, by device: half the time on a CPU where they fit its caches."""


def check_quantities(actions: Tensor, batch: int, columns: int = 4) -> None:
    """Check m, tau_1, tau_2, w [B, 4], and after them finite numbers, whose range a sampler knows.

    Args:
        actions: what is checked.
        batch: B.
        columns: how many, with those that a sampler takes.

    Raises:
        ValueError: no tensor or another shape, a number that is not finite, m outside [0, 1] or
            another of the four below 0.
    """
    _check_shape(actions, batch, columns)
    allowed = _allowed(actions)
    if not bool(allowed.all()):
        row = actions[int((~allowed.all(dim=1)).nonzero()[0, 0])].tolist()
        more = f" and {len(row) - 4} numbers of its sampler" if columns > 4 else ""
        raise ValueError(
            f"actions: got m, tau_1, tau_2, w = {row[:4]}{more}, allowed are finite numbers, m in "
            "[0, 1] and the three others >= 0"
        )


def _check_shape(actions: Tensor, batch: int, columns: int) -> None:
    shape = tuple(actions.shape) if isinstance(actions, Tensor) else type(actions).__name__
    if shape != (batch, columns):
        raise ValueError(f"actions: got {shape}, allowed is a tensor ({batch}, {columns})")


def _allowed(actions: Tensor) -> Tensor:
    """Which of m, tau_1, tau_2, w [B, 4] are in their ranges, and what comes after is finite."""
    allowed = actions.isfinite()
    allowed[:, :4] &= actions[:, :4] >= 0
    allowed[:, REMASK_RATIO] &= actions[:, REMASK_RATIO] <= 1
    return allowed


def decode_step(
    ids: Tensor, logits: Tensor, null_logits: Tensor, actions: Tensor, uniforms: Tensor,
    last: Tensor, mask_id: int, unknown: Tensor | None = None, sampling: Sampling | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The transition v(t) -> v(t+1) of Eq. 6. Known tokens are never changed, but by a `sampling`.

    An accelerator is waited for once, where all is well; with a `sampling` more often.

    Args:
        ids: tokens [B, N] int64, `mask_id` where masked.
        logits: of the conditional pass on `ids` [B, N, K].
        null_logits: of the pass with the null condition [B, N, K].
        actions: m, tau_1, tau_2, w per sample [B, 4], and after them what `sampling` takes.
        uniforms: [B, N, 2] in [0, 1): the first draws the token, the second its Gumbel noise.
        last: [B] bool; where set, every token is revealed and m, tau_2 have no effect.
        mask_id: the id of a masked token.
        unknown: see `remask`.
        sampling: says what stays masked, of known tokens too, instead of `remask`.

    Returns:
        The next ids [B, N], and the confidences [B, N] by which they were re-masked, of a
        `sampling` its scores; +inf at tokens known before.

    Raises:
        ValueError: actions or uniforms out of range, or see `guide`; nothing was changed, but what
            a `sampling` remembers.
    """
    more = sampling is not None and isinstance(actions, Tensor) and actions.ndim == 2
    columns = max(4, actions.shape[1]) if more else 4
    _check_shape(actions, len(ids), columns)
    arguments = ids, logits, null_logits, actions, uniforms, last, mask_id, unknown, sampling
    if sampling is None:  # one that remembers must not be told of a step twice
        after, confidence, total = _transition(*arguments, guided=lerp)
        in_range = _allowed(actions).all() & ((uniforms >= 0) & (uniforms < 1)).all()
        if bool(in_range & total.isfinite()):
            return after, confidence
    check_quantities(actions, len(ids), columns)
    if not bool(((uniforms >= 0) & (uniforms < 1)).all()):
        raise ValueError("uniforms: got a number that is not in [0, 1), or NaN")
    after, confidence, _ = _transition(*arguments, guided=guide)
    return after, confidence


def _transition(
    ids: Tensor, logits: Tensor, null_logits: Tensor, actions: Tensor, uniforms: Tensor,
    last: Tensor, mask_id: int, unknown: Tensor | None, sampling: Sampling | None,
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
        if sampling is None:
            temperature = action[:, REMASK_TEMPERATURE]
            confidence[at] = confidences(scores, tokens, temperature, uniform[:, 1])
        else:
            confidence[at] = sampling.scores(scores, tokens, action, uniform, at)

    tokens = torch.where(masked, revealed.view_as(ids), ids)
    confidence = confidence.view_as(ids).masked_fill(~masked, torch.inf)
    ratio = actions[:, REMASK_RATIO].masked_fill(last, 0.0)
    allowed = allowed_masked(num_tokens, ratio, unknown)
    if sampling is None:
        stays = lowest(confidence, masked, allowed)
    else:
        told = Drawn(tokens, masked, confidence, allowed, actions, uniforms.view(*ids.shape, 2))
        stays = sampling.stays(told) & ~last[:, None]
    return tokens.masked_fill(stays, mask_id), confidence, total


def _places(masked: Tensor) -> Tensor:
    """Places [M] of the B * N where a token is to be drawn: on an accelerator all.

    How many are masked only the accelerator knows: to ask it costs more than to draw in vain.
    """
    if masked.device.type == "cpu":
        return masked.flatten().nonzero()[:, 0]
    return torch.arange(masked.numel(), device=masked.device)
