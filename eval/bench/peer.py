"""The loop of AdaNAT's authors, plainly, as what this library's is compared with.

Written from a description of their code. It differs from `nat_env` in what it computes twice or
for nothing: conditional and null pass apart, one more pass at the end, noise and softmax over all
[B, N, K], also at known tokens. Their re-masking is by a cut-off, which agrees with ours by rank
wherever no two confidences are equal. It draws from torch's global generator.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Categorical

from nat_env.frozen.protocol import NATOutput
from nat_env.policies import DecodingPolicy


def authors_step(
    ids: Tensor, logits: Tensor, null_logits: Tensor, actions: Tensor, mask_id: int
) -> tuple[Tensor, Tensor]:
    """One decoding step.

    Args:
        ids: tokens [B, N], `mask_id` where masked.
        logits: conditional [B, N, K].
        null_logits: with the null condition [B, N, K].
        actions: m, tau_1, tau_2, w per sample [B, 4]; tau_1 > 0.
        mask_id: the id of a masked token.

    Returns:
        All tokens as drawn [B, N], and with those re-masked that are least confident [B, N].
    """
    num_tokens = ids.shape[1]
    ratio, sampling, remasking, guidance = (a[:, None] for a in actions.float().unbind(dim=1))
    guided = logits + guidance[..., None] * (logits - null_logits)  # [B, N, K]
    drawn = Categorical(logits=guided / sampling[..., None]).sample()
    known = ids != mask_id
    sampled = torch.where(known, ids, drawn)
    confidence = guided.log_softmax(dim=-1).gather(-1, sampled[..., None])[..., 0]
    confidence = confidence.masked_fill(known, torch.inf)
    uniforms = torch.rand_like(confidence).clamp_min(torch.finfo(torch.float32).tiny)
    confidence = confidence - remasking * torch.log(-torch.log(uniforms))
    count = (num_tokens * ratio).floor().long().clamp_max(num_tokens - 1)  # [B, 1]
    cutoff = confidence.sort(dim=1).values.gather(1, count)
    return sampled, sampled.masked_fill(confidence < cutoff, mask_id)


@torch.no_grad()
def authors_generate(
    transformer: Callable[[Tensor, Tensor], NATOutput],
    policy: DecodingPolicy,
    decode: Callable[[Tensor], Tensor],
    conditions: Tensor,
    num_steps: int,
    num_tokens: int,
    mask_id: int,
    null_condition: int,
) -> Tensor:
    """Labels [B] -> images by 2 T + 1 passes, half of them (and one) conditional.

    `transformer` takes (ids, conditions) and gives float32; `policy` takes (features, timestep).
    """
    ids = torch.full((len(conditions), num_tokens), mask_id, device=conditions.device)
    null = torch.full_like(conditions, null_condition)
    sampled = ids
    output = transformer(ids, conditions)
    for step in range(num_steps):
        actions = policy(output.features, torch.full_like(conditions, step))
        null_output = transformer(ids, null)
        sampled, ids = authors_step(ids, output.logits, null_output.logits, actions, mask_id)
        output = transformer(ids, conditions)  # of the next state, also after the last step
    return decode(sampled)
