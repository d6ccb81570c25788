"""What a step is decided by: the quantities' names, ranges, and where they have no effect."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Quantity:
    """A number of each sample at each step, or one of each of its tokens."""

    name: str
    activation: Literal["softplus", "sigmoid", "identity"] = "softplus"
    """Of a raw action: from 0 up, in [0, 1], or any number."""
    is_idle_at_last: bool = False
    """No effect at the last step, where all tokens are revealed."""
    of_tokens: bool = False
    """One of each of the N tokens: N columns of its name."""


QUANTITIES = (
    Quantity("remask_ratio", "sigmoid", is_idle_at_last=True),
    Quantity("sampling_temperature"),
    Quantity("remask_temperature", is_idle_at_last=True),
    Quantity("guidance_scale"),
)
"""m, tau_1, tau_2, w: the columns of an action [B, 4] (Eq. 5). What a sampler takes by sample comes
after them, see `nat_env.samplers.protocol.Sampler`."""

COLUMNS = tuple(quantity.name for quantity in QUANTITIES)
"""Their names, and those of a schedule's table [T, 4]."""


def by_sample(values: Tensor, columns: Sequence[str]) -> Tensor:
    """One number for each quantity: of one of tokens their standard deviation over the tokens.

    What is the same for all tokens has no effect on which of them come first.

    Args:
        values: [B, C], the quantities of tokens after the others.
        columns: names of the C columns.

    Returns:
        [B, Q], of the Q names in their order.

    Example:
        >>> by_sample(torch.tensor([[0.5, -3.0, 1.0]]), ("guidance_scale", "map", "map"))
        tensor([[0.5000, 2.0000]])
    """
    names = list(dict.fromkeys(columns))
    parts = values.split([list(columns).count(name) for name in names], dim=1)
    each = [p if p.shape[1] == 1 else p.std(dim=1, correction=0, keepdim=True) for p in parts]
    return torch.cat(each, dim=1)
