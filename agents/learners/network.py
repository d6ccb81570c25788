"""The paper's policy network (AdaNAT, appendix A.2), for any token grid."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def timestep_embedding(timestep: Tensor, size: int, max_period: float = 10_000.0) -> Tensor:
    """Sinusoids of timesteps [B]: [B, size], cosines then sines (DiT's order).

    Example:
        >>> timestep_embedding(torch.tensor([0.0]), 4)
        tensor([[1., 1., 0., 0.]])
    """
    half = size // 2
    steps = torch.arange(half, device=timestep.device)
    frequencies = torch.exp(-math.log(max_period) * steps / half)
    angles = timestep[:, None].float() * frequencies  # [B, half]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class AdaptiveLayerNorm(nn.Module):
    """LayerNorm whose scale and shift come from the timestep: none while the modulation is zero."""

    def __init__(self, size: int, condition_size: int) -> None:
        """Modulate `size` channels by a condition of `condition_size`."""
        super().__init__()
        self.norm = nn.LayerNorm(size, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(condition_size, 2 * size)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Channels-last x [B, ..., size], condition [B, condition_size]."""
        shift, scale = self.modulation(F.silu(condition)).chunk(2, dim=-1)
        shape = (len(x), *[1] * (x.ndim - 2), x.shape[-1])
        return self.norm(x) * (1 + scale.view(shape)) + shift.view(shape)


def folded(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Places [B, h w, D], row by row, onto their grid [B, D, h, w]."""
    return x.transpose(1, 2).unflatten(2, grid)


class MapHead(nn.Module):
    """A number of each token, of what is seen around it and of where it is; zero at first.

    Where nothing is seen of a sample it is of the place and the timestep alone.
    """

    def __init__(self, hidden_size: int, grid: tuple[int, int], tokens: int) -> None:
        """Make the head for features on a grid, of whose places each stands for p x p tokens.

        Raises:
            ValueError: so many tokens do not lie on that grid.
        """
        super().__init__()
        places = grid[0] * grid[1]
        each = tokens // places
        self.grid, self.side = grid, math.isqrt(each)
        if self.side**2 * places != tokens:
            raise ValueError(
                f"map_size: got {tokens}, allowed are {places} places of the features times a "
                "square number"
            )
        self.position = nn.Parameter(torch.empty(places, hidden_size).normal_(std=0.02))
        self.norm = AdaptiveLayerNorm(hidden_size, hidden_size)
        self.depthwise = nn.Conv2d(hidden_size, hidden_size, 3, padding=1, groups=hidden_size)
        self.pointwise = nn.Conv2d(hidden_size, each, 1)
        for part in self.pointwise.parameters():
            nn.init.zeros_(part)

    def forward(self, embedded: Tensor, condition: Tensor) -> Tensor:
        """Embedded features [B, M, hidden] and timesteps [B, hidden] -> [B, N], row by row."""
        x = folded(self.norm(embedded + self.position, condition), self.grid)
        x = self.pointwise(F.gelu(self.depthwise(x)))  # [B, p p, h, w]
        return F.pixel_shuffle(x, self.side).flatten(1)


class AdaNATNetwork(nn.Module):
    """AdaLN, depth-wise and point-wise convolution, MLP; its head starts at zero."""

    def __init__(
        self,
        feature_size: int,
        grid: tuple[int, int],
        outputs: int,
        hidden_size: int,
        adaptive: bool = True,
        map_size: int = 0,
    ) -> None:
        """Make the network.

        Args:
            feature_size: D of the NAT's features.
            grid: tokens along height and width.
            outputs: numbers of a sample: of an action for an actor, 1 for a critic.
            hidden_size: the paper's is 512.
            adaptive: False for one that is blind to the features, and so the same for all samples
                (the middle row of the paper's Table 5).
            map_size: N, for one number of each token as well, see `MapHead`; or 0.
        """
        super().__init__()
        self.adaptive = adaptive
        self.grid = grid
        self.embedding = (
            nn.Identity() if feature_size == hidden_size else nn.Linear(feature_size, hidden_size)
        )
        self.time_size = hidden_size // 2
        self.time_mlp = nn.Sequential(
            nn.Linear(self.time_size, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )
        self.norm1 = AdaptiveLayerNorm(hidden_size, hidden_size)
        self.depthwise = nn.Conv2d(
            hidden_size, hidden_size, 3, stride=2, padding=1, groups=hidden_size
        )
        narrow = hidden_size // 4
        self.pointwise = nn.Conv2d(hidden_size, narrow, 1)
        cells = math.ceil(grid[0] / 2) * math.ceil(grid[1] / 2)
        self.linear1 = nn.Linear(narrow * cells, 2 * hidden_size)
        self.norm2 = AdaptiveLayerNorm(2 * hidden_size, hidden_size)
        self.linear2 = nn.Linear(2 * hidden_size, hidden_size)
        self.norm3 = AdaptiveLayerNorm(hidden_size, hidden_size)
        self.head = nn.Linear(hidden_size, outputs)
        self.map_head = MapHead(hidden_size, grid, map_size) if map_size else None
        self._initialise()

    def _initialise(self) -> None:
        """As the authors' code; convolutions are torch's default."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in self.time_mlp:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
        norms = (m for m in self.modules() if isinstance(m, AdaptiveLayerNorm))
        for linear in (*(norm.modulation for norm in norms), self.head):
            nn.init.zeros_(linear.weight)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """An embedding that the weights have is made where the sizes do not ask for one.

        AdaGen's policies have it at any width, AdaNAT's where D is another than the hidden size.
        """
        weight = state.get(f"{prefix}embedding.weight")
        if weight is not None and isinstance(self.embedding, nn.Identity):
            hidden_size = self.head.in_features
            self.embedding = nn.Linear(hidden_size, hidden_size).to(self.head.weight)
        super()._load_from_state_dict(state, prefix, *args)

    def forward(self, features: Tensor, timestep: Tensor) -> Tensor:
        """Features [B, M, D] and timesteps [B] -> [B, outputs], and after them a map's N."""
        if not self.adaptive:
            features = torch.zeros_like(features)
        condition = self.time_mlp(timestep_embedding(timestep, self.time_size))  # [B, hidden]
        embedded = self.embedding(features)
        x = folded(self.norm1(embedded, condition), self.grid)
        x = F.gelu(self.pointwise(F.gelu(self.depthwise(x)))).flatten(1)
        x = F.gelu(self.norm2(self.linear1(x), condition))
        x = F.gelu(self.norm3(self.linear2(x), condition))
        numbers = self.head(x)
        if self.map_head is None:
            return numbers
        return torch.cat([numbers, self.map_head(embedded, condition)], dim=1)
