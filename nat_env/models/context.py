"""What prompts' conditions stand for, where and in the precision that a network wants it."""

import torch
from torch import Tensor

RESIDENT_BYTES = 2**30
"""A table up to this size is copied to the network's device and dtype once; of a larger one, only
the rows that are asked for. It bounds the memory, however many prompts there are."""


class ContextTable:
    """A table of conditions' tensors, by row; it may be a memory map.

    Example:
        >>> table = ContextTable(torch.arange(6.0).view(3, 2))
        >>> table.rows(torch.tensor([2, 0]), torch.float32)
        tensor([[4., 5.],
                [0., 1.]])
    """

    def __init__(self, table: Tensor) -> None:
        """Keep `table` [C + 1, ...] where it is."""
        self._table = table

    def rows(self, condition: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows [B, ...] of conditions [B] int64, on their device and of `dtype`."""
        table, device = self._table, condition.device
        there = (table.device, table.dtype) == (device, dtype)
        if not there and table.numel() * dtype.itemsize <= RESIDENT_BYTES:
            table = self._table = table.to(device, dtype)
        return table[condition.to(table.device)].to(device, dtype)
