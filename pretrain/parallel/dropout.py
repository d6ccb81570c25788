"""Dropout that does not depend on how a batch is dealt to passes and processes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WholeBatchDropout(nn.Module):
    """`nn.Dropout` of some rows of a batch, by what is drawn for the whole of it.

    Every process draws the same numbers, those that one process alone draws for the batch, and
    applies those of its rows: at the price of their memory.
    """

    def __init__(self, p: float) -> None:
        """Drop a share `p`."""
        super().__init__()
        self.p = p
        self._factors = torch.ones(())
        self._rows = slice(0)

    def draw(self, shape: tuple[int, ...], device: torch.device) -> None:
        """Draw for a batch of that shape, [B, ...], from torch's global generator."""
        self._factors = F.dropout(torch.ones(shape, device=device), self.p)

    @contextmanager
    def of(self, rows: slice) -> Iterator[None]:
        """Inside, what is given are those rows of the batch."""
        self._rows = rows
        yield

    def forward(self, x: Tensor) -> Tensor:
        """Rows [b, ...] of the batch."""
        return x * self._factors[self._rows] if self.training else x
