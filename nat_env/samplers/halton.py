"""A fixed order of low discrepancy, whatever was drawn (Besnier et al., ICLR 2025)."""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from nat_env.decoding.remasking import Drawn, lowest
from nat_env.frozen.grid import token_grid
from nat_env.frozen.nat import FrozenNAT


@dataclass(frozen=True)
class Halton:
    """Reveals tokens in the order of a Halton sequence on the grid, as many as m says.

    Tokens that are drawn together lie far apart, and so depend little on one another. The order
    alone is the paper's: its counts are of an arccos, at least one in each step. tau_2 has no
    effect.
    """

    unused: ClassVar[tuple[str, ...]] = ("remask_temperature",)

    def begin(self, nat: FrozenNAT, free: Tensor, conditions: Tensor) -> "Halton._Sampling":
        """See `Sampler`."""
        return Halton._Sampling(halton_ranks(token_grid(nat)).to(free.device))

    class _Sampling:
        def __init__(self, ranks: Tensor) -> None:
            self.ranks = ranks  # [N]
            self.state: dict[str, Tensor] = {}

        def scores(
            self, logits: Tensor, tokens: Tensor, actions: Tensor, uniforms: Tensor, places: Tensor
        ) -> Tensor:
            return -self.ranks[places % len(self.ranks)].float()

        def stays(self, drawn: Drawn) -> Tensor:
            return lowest(drawn.scores, drawn.masked, drawn.allowed)


@cache
def halton_ranks(grid: tuple[int, int]) -> Tensor:
    """When each position of a grid is revealed: 0 for the first, [N] int64.

    Points of the two-dimensional sequence with bases 2 and 3, from its second one on, fall on
    positions, row and column; what falls on one that was hit before is left out.

    Example:
        >>> halton_ranks((2, 2)).view(2, 2)
        tensor([[2, 1],
                [0, 3]])
    """
    from scipy.stats import qmc

    rows, columns = grid
    sequence = qmc.Halton(2, scramble=False).fast_forward(1)
    order: dict[int, None] = {}
    while len(order) < rows * columns:
        for down, right in sequence.random(rows * columns):
            order.setdefault(int(down * rows) * columns + int(right * columns))
    ranks = torch.empty(len(order), dtype=torch.int64)
    ranks[torch.tensor(list(order))] = torch.arange(len(order))
    return ranks
