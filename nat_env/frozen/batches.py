"""Many rows through a frozen network, a batch at a time."""

from collections.abc import Callable

import torch
from torch import Tensor

from nat_env.frozen.precision import without_autocast


@torch.no_grad()
def in_batches(
    function: Callable[..., Tensor],
    *rows: Tensor,
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> Tensor:
    """`function` of all rows, as if they were given at once: only a batch of them is computed on.

    Args:
        function: of a batch [b, ...] of each tensor; gives [b, ...], each row a function of its own
            row alone. No gradients are recorded.
        rows: one or more tensors of n rows each.
        batch_size: b at most.
        device: where the batches are moved before; None for where they are.

    Returns:
        [n, ...], where the first tensor is.

    Raises:
        ValueError: tensors of different n, or no batch.

    Example:
        >>> in_batches(torch.maximum, torch.arange(5), torch.full((5,), 2), batch_size=2)
        tensor([2, 2, 2, 3, 4])
    """
    lengths = [len(tensor) for tensor in rows]
    if len(set(lengths)) != 1:
        raise ValueError(f"rows: got {lengths} of them, allowed is one number")
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, allowed is >= 1")
    home = rows[0].device
    batches = zip(*(tensor.split(batch_size) for tensor in rows), strict=True)
    with without_autocast(torch.device(device or home)):
        return torch.cat([function(*(b.to(device) for b in batch)).to(home) for batch in batches])
