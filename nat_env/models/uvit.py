"""The papers' NAT: a U-ViT over visual tokens (Bao et al. 2023, as used by AutoNAT and AdaNAT)."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nat_env.frozen.conditions import Conditions
from nat_env.frozen.protocol import NATOutput
from nat_env.frozen.weights import load_weights, save_weights


@dataclass(frozen=True)
class UViTConfig:
    """Sizes of a `UViT`."""

    codebook_size: int
    """K: visual tokens are 0 .. K-1, K is the mask."""
    grid: tuple[int, int]
    """Tokens along height and width, row by row."""
    num_classes: int
    """Labels are 0 .. num_classes-1; num_classes is the null label of guidance."""
    hidden_size: int = 128
    depth: int = 7
    """Number of blocks, odd: the middle one has no long skip."""
    num_heads: int = 4
    dropout: float = 0.1
    """After the token embedding, as in the papers' code; in training only."""

    @property
    def num_tokens(self) -> int:
        """N: tokens of one image."""
        return math.prod(self.grid)

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: an even depth, or a hidden size that the heads do not divide.
        """
        if self.depth < 1 or self.depth % 2 == 0:
            raise ValueError(f"depth: got {self.depth}, allowed are odd numbers from 1")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads: got {self.num_heads}, must divide hidden_size {self.hidden_size}"
            )


class _Block(nn.Module):
    """Pre-norm transformer block; with `skip`, first merges the mirrored block's output."""

    def __init__(self, size: int, num_heads: int, *, skip: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.skip_linear = nn.Linear(2 * size, size) if skip else None
        self.norm1 = nn.LayerNorm(size)
        self.qkv = nn.Linear(size, 3 * size, bias=False)
        self.proj = nn.Linear(size, size)
        self.norm2 = nn.LayerNorm(size)
        self.fc1 = nn.Linear(size, 4 * size)
        self.fc2 = nn.Linear(4 * size, size)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:  # [B, L, D] -> [B, L, D]
        if self.skip_linear is not None and skip is not None:
            x = self.skip_linear(torch.cat([x, skip], dim=-1))
        x = x + self.proj(self._attention(self.norm1(x)))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))

    def _attention(self, x: Tensor) -> Tensor:
        batch, length, size = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, size // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B, heads, L, D / heads]
        if torch.is_grad_enabled() and x.device.type == "cpu":
            # The fused kernel's backward is slow on CPU at these lengths: this is twice as fast.
            weights = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
            mixed = weights.softmax(dim=-1) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).reshape(batch, length, size)


class UViT(nn.Module):
    """Predicts the tokens at all positions from those that are known and a class label.

    A class token is prepended, positions are learned, there is no timestep token: the share of
    masked tokens tells the step. Long skips join block i and block depth - 1 - i. The output head
    is tied to the token embedding without gradient through the output side, as in the papers'
    released code.
    """

    kind: ClassVar[str] = "uvit"

    def __init__(self, config: UViTConfig) -> None:
        """Make the network with random weights from torch's global generator."""
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.token_embedding = nn.Embedding(config.codebook_size + 1, size)
        self.position_embedding = nn.Parameter(torch.zeros(config.num_tokens, size))
        self.token_norm = nn.LayerNorm(size, eps=1e-6)
        self.dropout = nn.Dropout(config.dropout)
        self.class_embedding = nn.Embedding(config.num_classes + 1, size)
        self.class_norm = nn.LayerNorm(size, eps=1e-6)
        half = config.depth // 2
        self.in_blocks = nn.ModuleList(
            _Block(size, config.num_heads, skip=False) for _ in range(half)
        )
        self.mid_block = _Block(size, config.num_heads, skip=False)
        self.out_blocks = nn.ModuleList(
            _Block(size, config.num_heads, skip=True) for _ in range(half)
        )
        self.norm = nn.LayerNorm(size)
        self.head = nn.Sequential(nn.Linear(size, size), nn.GELU(), nn.LayerNorm(size))
        self.head_bias = nn.Parameter(torch.zeros(config.codebook_size))
        self.apply(_initialise)
        nn.init.trunc_normal_(self.position_embedding, std=0.02)

    @property
    def num_tokens(self) -> int:
        """N."""
        return self.config.num_tokens

    @property
    def codebook_size(self) -> int:
        """K."""
        return self.config.codebook_size

    @property
    def mask_id(self) -> int:
        """The id that stands for a masked token: the codebook's size."""
        return self.config.codebook_size

    @property
    def feature_grid(self) -> tuple[int, int]:
        """That of the tokens."""
        return self.config.grid

    @property
    def feature_size(self) -> int:
        """D: the width."""
        return self.config.hidden_size

    @property
    def feature_bound(self) -> float:
        """No output of an affine LayerNorm over D numbers exceeds sqrt(D) |gamma| + |beta|.

        The bound is doubled: in bfloat16 an output may round past it.
        """
        gamma, beta = (p.float().abs().max() for p in (self.norm.weight, self.norm.bias))
        return max(1.0, float(2 * (self.feature_size**0.5 * gamma + beta)))

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Stored`."""
        save_weights(self, folder)
        return asdict(self.config)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], conditions: Conditions) -> "UViT":
        """See `Stored`."""
        values: dict[str, Any] = dict(config) | {"grid": tuple(config["grid"])}
        sizes = UViTConfig(**values)
        conditions.check_classes("transformer", sizes.num_classes)
        uvit = cls(sizes)
        load_weights(uvit, folder)
        return uvit

    def forward(self, ids: Tensor, condition: Tensor) -> NATOutput:
        """One pass.

        Args:
            ids: tokens [B, N], int64, `mask_id` where masked.
            condition: labels [B], int64, `num_classes` for none.

        Returns:
            `logits` [B, N, K] of every position, and the final LayerNorm's `features` [B, N, D].
        """
        features = self.features(ids, condition)
        return NATOutput(self.logits(features), features)

    def features(self, ids: Tensor, condition: Tensor) -> Tensor:
        """The final LayerNorm's output at the N visual tokens, [B, N, D]."""
        x = self.dropout(self.token_norm(self.token_embedding(ids) + self.position_embedding))
        context = self.class_norm(self.class_embedding(condition))
        x = torch.cat([context[:, None], x], dim=1)  # [B, 1 + N, D]
        skips = []
        for block in self.in_blocks:
            x = block(x)
            skips.append(x)
        x = self.mid_block(x)
        for block in self.out_blocks:
            x = block(x, skips.pop())
        # Cut before the norm, whose output is contiguous: of a slice the head would be slow.
        return self.norm(x[:, 1:])

    def logits(self, features: Tensor) -> Tensor:
        """The tied head: features [..., D] -> logits [..., K] over visual tokens."""
        codes = self.token_embedding.weight[: self.config.codebook_size].detach()
        return F.linear(self.head(features), codes, self.head_bias)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
