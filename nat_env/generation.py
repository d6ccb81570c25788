"""Images from a bundle and a policy: the one inference loop."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.decoding.transition import check_quantities, decode_step
from nat_env.frozen.canvas import partly_known
from nat_env.frozen.nat import FrozenNAT
from nat_env.frozen.transfers import sent
from nat_env.policies import DecodingPolicy, columns_of, observed
from nat_env.samplers.protocol import Sampler


@dataclass(frozen=True)
class StepRecord:
    """One step of a batch, for looking at it."""

    timestep: int
    ids: Tensor
    """[B, N] after the step."""
    actions: Tensor
    """m, tau_1, tau_2, w [B, 4] that were applied, and what else the policy has `columns` for; NaN
    where the image was complete before."""
    confidence: Tensor
    """By which the step re-masked [B, N], of a sampler its scores; +inf at tokens known before."""
    passed: Tensor
    """Rows [B] bool that took a pass for it: of others all tokens were known before."""


def draw_uniforms(generators: Sequence[np.random.Generator], num_tokens: int) -> Tensor:
    """Two uniforms in [0, 1) per token, [B, N, 2] float32, each row from its own generator."""
    rows = [g.random((num_tokens, 2), dtype=np.float32) for g in generators]
    return torch.from_numpy(np.stack(rows))


@torch.no_grad()
def generate_tokens(
    nat: FrozenNAT,
    policy: DecodingPolicy,
    conditions: Tensor,
    num_steps: int,
    generators: Sequence[np.random.Generator],
    on_step: Callable[[StepRecord], None] | None = None,
    canvas: Tensor | None = None,
) -> Tensor:
    """Decode one batch: labels [B] -> ids [B, N], with one numpy generator a row.

    `canvas` is what it starts from, see `partly_known`: by default the empty one.

    Raises:
        ValueError: a policy that gives another shape or numbers out of range, or see
            `decode_step`.
    """
    batch = len(conditions)
    passes = nat.opening_passes(conditions, canvas)
    if canvas is None:
        canvas = torch.full((batch, nat.num_tokens), nat.mask_id, device=nat.device)
    ids, unknown = canvas, (canvas == nat.mask_id).sum(dim=1)
    passed = torch.ones(batch, dtype=torch.bool)
    conditions = conditions.to(nat.device)
    sampler: Sampler | None = getattr(policy, "sampler", None)
    free, columns = canvas == nat.mask_id, len(columns_of(policy))
    sampling = None if sampler is None else sampler.begin(nat, free, conditions)
    for step in range(num_steps):
        timestep = torch.full((batch,), step, device=nat.device)
        last = timestep == num_steps - 1
        actions = policy(observed(policy, passes, ids == nat.mask_id), timestep)
        if isinstance(actions, Tensor):
            actions = actions.clone()  # its own, whatever the policy does with the one it keeps
            if actions.shape[1:] != (columns,):
                _check_given(actions, batch, step, columns)
        uniforms = sent(draw_uniforms(generators, nat.num_tokens), nat.device)
        try:
            ids, confidence = decode_step(
                ids, passes.logits, passes.null_logits, actions, uniforms, last, nat.mask_id,
                unknown, sampling,
            )  # fmt: skip
        except ValueError:
            _check_given(actions, batch, step, columns)
            raise
        if on_step is not None:
            idle = sent(~passed, nat.device)[:, None]
            told = actions.masked_fill(idle, torch.nan)
            on_step(StepRecord(step, ids.clone(), told, confidence, passed))
        if step == num_steps - 1:
            break
        passed = (ids == nat.mask_id).any(dim=1).cpu()
        if len(going_on := passed.nonzero()[:, 0]):
            at = sent(going_on, nat.device)
            passes = passes.put(going_on, nat.passes(ids[at], conditions[at]))
    return ids


def _check_given(actions: Tensor, batch: int, step: int, columns: int) -> None:
    try:
        check_quantities(actions, batch, columns)
    except ValueError as error:
        raise ValueError(f"policy: at step {step} it gave {error}") from None


def generate_batches(
    bundle: Bundle,
    policy: DecodingPolicy,
    conditions: Tensor | np.ndarray | Sequence[int],
    num_steps: int,
    seed: int,
    batch_size: int | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
    ids: Any = None,
    known: Any = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Decode images, a batch whenever the next one is asked for.

    No batch is held here: as many images are in memory as the caller keeps.

    Row i draws from a generator seeded with seed + i, as sub-environment i of
    `reset(seed=seed, options={"condition": conditions})` does: in float32, on one back-end, the
    images do not depend on `batch_size`, and two policies with the same seed are compared on
    common random numbers.

    Args:
        bundle: the frozen models.
        policy: (features, timestep) -> m, tau_1, tau_2, w, and its `sampler`, if it has one.
        conditions: labels [B], a tensor of int64, an array or a list.
        num_steps: T >= 1.
        seed: >= 0.
        batch_size: samples decoded at once; by default `FrozenNAT.rows_per_pass`.
        on_step: called after every step of every batch.
        ids: tokens of images that are partly known, integers [B, N]; see `partly_known`.
        known: which of them are kept, bool [B, N]: m is then a share of the others.

    Returns:
        An iterator over images [b, C, H, W] float32 in [0, 1], b <= `batch_size`, and their
        conditions [b], where the images are.

    Raises:
        ValueError: at the call, before anything is decoded: a label out of range, T < 1 or other
            than the policy's, a negative seed, no batch, or see `partly_known`. While decoding: a
            policy that gives another shape or numbers out of range, or logits that are not finite.
    """
    numbers = bundle.conditions.checked(conditions).cpu()
    if num_steps < 1:
        raise ValueError(f"num_steps: got {num_steps}, allowed is T >= 1")
    own = getattr(policy, "num_steps", None)
    if own not in (None, num_steps):
        raise ValueError(
            f"num_steps: got {num_steps}, allowed with this policy is its own T = {own}; "
            f"a schedule becomes one of another T by schedule.resampled({num_steps})"
        )
    if seed < 0:
        raise ValueError(f"seed: got {seed}, allowed is >= 0")
    at_once = bundle.nat.rows_per_pass if batch_size is None else batch_size
    if at_once < 1:
        raise ValueError(f"batch_size: got {batch_size}, allowed is >= 1")
    canvas = partly_known(bundle.nat, ids, known, (len(numbers), bundle.num_tokens))

    @torch.no_grad()
    def batch(start: int) -> tuple[Tensor, Tensor]:
        labels = numbers[start : start + at_once]
        generators = [
            np.random.Generator(np.random.PCG64(seed + start + i)) for i in range(len(labels))
        ]
        begun = None if canvas is None else canvas[start : start + at_once]
        tokens = generate_tokens(bundle.nat, policy, labels, num_steps, generators, on_step, begun)
        images = bundle.tokenizer.decode(tokens)
        return images, labels.to(images.device, copy=True)  # not a view of the caller's

    return map(batch, range(0, len(numbers), at_once))


def generate(
    bundle: Bundle,
    policy: DecodingPolicy,
    conditions: Tensor | np.ndarray | Sequence[int],
    num_steps: int,
    seed: int,
    batch_size: int | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
    ids: Any = None,
    known: Any = None,
) -> Tensor:
    """All images of `generate_batches` at once: [B, C, H, W] float32 in [0, 1]."""
    batches = generate_batches(
        bundle, policy, conditions, num_steps, seed, batch_size, on_step, ids, known
    )
    return torch.cat([images for images, _ in batches])
