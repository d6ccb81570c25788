"""A block of a U-ViT."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm transformer block; with `skip`, first merges the mirrored block's output."""

    def __init__(self, size: int, num_heads: int, *, skip: bool) -> None:
        """Make one with random weights."""
        super().__init__()
        self.num_heads = num_heads
        self.skip_linear = nn.Linear(2 * size, size) if skip else None
        self.norm1 = nn.LayerNorm(size)
        self.qkv = nn.Linear(size, 3 * size, bias=False)
        self.proj = nn.Linear(size, size)
        self.norm2 = nn.LayerNorm(size)
        self.fc1 = nn.Linear(size, 4 * size)
        self.fc2 = nn.Linear(4 * size, size)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Places [B, L, D] -> [B, L, D]; `skip` [B, L, D] is the mirrored block's output."""
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
