"""How sure the NAT is of each token."""

import torch
from torch import Tensor


def surest(logits: Tensor, masked: Tensor) -> Tensor:
    """The largest probability of each masked token, and 1 of the others: [B, N].

    What the NAT says of known tokens is left out: its training never asks for it.

    Args:
        logits: of the conditional pass [B, N, K].
        masked: [B, N] bool.
    """
    logits = logits.float()
    largest = (logits.amax(dim=-1) - logits.logsumexp(dim=-1)).exp()
    return torch.where(masked, largest, 1.0)


def confidence_features(logits: Tensor, masked: Tensor) -> Tensor:
    """What a policy sees by the observation `confidences`: `surest`, and the mask, [B, N, 2].

    It is the same whatever the width of the NAT and its codebook.

    Example:
        >>> logits = torch.tensor([[[0.0, 0.0], [3.0, -3.0]]])
        >>> confidence_features(logits, torch.tensor([[True, False]]))
        tensor([[[0.5000, 1.0000],
                 [1.0000, 0.0000]]])
    """
    return torch.stack([surest(logits, masked), masked.float()], dim=-1)
