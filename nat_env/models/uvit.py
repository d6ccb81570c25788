"""The papers' NAT: a U-ViT over visual tokens (Bao et al. 2023, as used by AutoNAT and AdaNAT)."""

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nat_env.frozen.conditions import Conditions
from nat_env.frozen.protocol import NATOutput
from nat_env.frozen.weights import load_weights, save_weights
from nat_env.models.context import ContextTable
from nat_env.models.uvit_block import Block


@dataclass(frozen=True)
class UViTConfig:
    """Sizes of a `UViT`."""

    codebook_size: int
    """K: visual tokens are 0 .. K-1, K is the mask."""
    grid: tuple[int, int]
    """Tokens along height and width, row by row."""
    num_classes: int
    """Labels are 0 .. num_classes-1; num_classes is the null label of guidance. 0 where conditions
    are prompts."""
    hidden_size: int = 128
    depth: int = 7
    """Number of blocks, odd: the middle one has no long skip."""
    num_heads: int = 4
    dropout: float = 0.1
    """After the token embedding, as in the papers' code; in training only."""
    patch_size: int = 1
    """Tokens along each side that are one place inside; 2 for ImageNet at 512 pixels."""
    context_length: int = 0
    """L: tokens of a prompt, as its text encoder gives them; 1: its pooled vector, or one token;
    0 where conditions are classes."""
    context_size: int = 0
    """E: numbers of each of them."""

    @property
    def num_tokens(self) -> int:
        """N: tokens of one image."""
        return math.prod(self.grid)

    @property
    def feature_grid(self) -> tuple[int, int]:
        """Places inside along height and width."""
        return self.grid[0] // self.patch_size, self.grid[1] // self.patch_size

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: an even depth, a hidden size that the heads do not divide, a grid that
                patches do not, or classes as well as prompts.
        """
        if self.depth < 1 or self.depth % 2 == 0:
            raise ValueError(f"depth: got {self.depth}, allowed are odd numbers from 1")
        if self.num_heads < 1 or self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads: got {self.num_heads}, must divide hidden_size {self.hidden_size}"
            )
        if self.patch_size < 1 or any(side % self.patch_size for side in self.grid):
            raise ValueError(f"patch_size: got {self.patch_size}, must divide the grid {self.grid}")
        text = (self.context_length, self.context_size)
        if (min(text) < 1 or self.num_classes) and (max(text) > 0 or self.num_classes < 1):
            raise ValueError(
                f"num_classes: got {self.num_classes} with (context_length, context_size) = {text},"
                " allowed are classes alone, or prompts of a length and a size alone"
            )


UVIT_SIZES = {
    "S": UViTConfig(1024, (16, 16), 1000, hidden_size=512, depth=13, num_heads=8),
    "B": UViTConfig(1024, (16, 16), 1000, hidden_size=768, depth=13, num_heads=12),
    "L": UViTConfig(1024, (16, 16), 1000, hidden_size=768, depth=25, num_heads=8),
    "Muse-CC3M": UViTConfig(
        1024, (16, 16), 0, hidden_size=1152, depth=29, num_heads=16,
        context_length=77, context_size=1280,
    ),
}  # fmt: skip
"""The published ones, for images of 256 x 256 pixels: S and L of AutoNAT and AdaNAT, B of
MUSE-Pytorch's ImageNet model, and its text-to-image model, which AdaNAT uses. The authors' files
call depth 12, 24 and 28 what has 13, 25 and 29 blocks."""


class UViT(nn.Module):
    """Predicts the tokens at all positions from those that are known and a class or a prompt.

    A token for the class, or those of the prompt, are prepended; positions are learned. There is no
    timestep token: the share of masked tokens tells the step. Long skips join block i and block
    depth - 1 - i. The output head is tied to the token embedding without gradient through the
    output side, as in the papers' released code. With patches, a strided convolution merges the
    embeddings of patch_size x patch_size tokens, and a linear layer before the head unfolds them.
    """

    kind: ClassVar[str] = "uvit"

    def __init__(self, config: UViTConfig) -> None:
        """Make the network with random weights from torch's global generator."""
        super().__init__()
        self.config = config
        size, patch = config.hidden_size, config.patch_size
        self.token_embedding = nn.Embedding(config.codebook_size + 1, size)
        self.position_embedding = nn.Parameter(torch.zeros(config.num_tokens, size))
        self.token_norm = nn.LayerNorm(size, eps=1e-6)
        self.dropout = nn.Dropout(config.dropout)
        self._prompts: ContextTable | None = None
        if config.context_size:
            self.context_embed = nn.Linear(config.context_size, size)
        else:
            self.class_embedding = nn.Embedding(config.num_classes + 1, size)
            self.class_norm = nn.LayerNorm(size, eps=1e-6)
        if patch > 1:
            self.patch_embed = nn.Conv2d(size, size, patch, stride=patch)
            self.decoder_pred = nn.Linear(size, patch**2 * size)
        half = config.depth // 2
        self.in_blocks = nn.ModuleList(
            Block(size, config.num_heads, skip=False) for _ in range(half)
        )
        self.mid_block = Block(size, config.num_heads, skip=False)
        self.out_blocks = nn.ModuleList(
            Block(size, config.num_heads, skip=True) for _ in range(half)
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
        """That of the tokens, or of patches of them."""
        return self.config.feature_grid

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

    def with_conditions(self, conditions: Conditions) -> Self:
        """The same network, of the same weights, for another table of conditions.

        Args:
            conditions: as many classes as it knows; or prompts with their `context`, in place of
                which `pooled` is taken where there is none and a prompt is one token.

        Raises:
            ValueError: another number of classes, or no context of the shape that it takes.
        """
        config = self.config
        if not config.context_size:
            conditions.check_classes("transformer", config.num_classes)
            return copy.copy(self)
        context = conditions.context
        if context is None and conditions.pooled is not None and config.context_length == 1:
            context = conditions.pooled[:, None]  # [C + 1, 1, E]
        allowed = (len(conditions) + 1, config.context_length, config.context_size)
        found = None if context is None else tuple(context.shape)
        if context is None or found != allowed:
            raise ValueError(
                f"conditions: got a context of {found}, allowed is {allowed}: a row for each prompt"
                " and one for none, as the transformer's text encoder gives them"
            )
        return self.with_context(context)

    def with_context(self, context: Tensor) -> Self:
        """As `with_conditions`, of a table [C + 1, L, E] whose rows have no names."""
        other = copy.copy(self)
        other._prompts = ContextTable(context)
        return other

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Stored`. The table of conditions is the bundle's."""
        save_weights(self, folder)
        return asdict(self.config)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], conditions: Conditions) -> "UViT":
        """See `Stored`."""
        values: dict[str, Any] = dict(config) | {"grid": tuple(config["grid"])}
        uvit = cls(UViTConfig(**values)).with_conditions(conditions)
        load_weights(uvit, folder)
        return uvit

    def forward(self, ids: Tensor, condition: Tensor) -> NATOutput:
        """One pass.

        Args:
            ids: tokens [B, N], int64, `mask_id` where masked.
            condition: [B], int64: labels, `num_classes` for none; or rows of the prompts' table.

        Returns:
            `logits` [B, N, K] of every position, and the final LayerNorm's `features` [B, M, D].

        Raises:
            ValueError: a network for prompts that has no table of them.
        """
        features = self.features(ids, condition)
        return NATOutput(self.logits(self.unfolded(features)), features)

    def features(self, ids: Tensor, condition: Tensor) -> Tensor:
        """The final LayerNorm's output at the M places of visual tokens, [B, M, D]."""
        x = self.dropout(self.token_norm(self.token_embedding(ids) + self.position_embedding))
        if self.config.patch_size > 1:
            tokens = x.unflatten(1, self.config.grid).permute(0, 3, 1, 2)  # [B, D, height, width]
            x = self.patch_embed(tokens).flatten(2).transpose(1, 2)  # [B, M, D]
        context = self._context(condition)  # [B, L, D]
        x = torch.cat([context, x], dim=1)  # [B, L + M, D]
        skips = []
        for block in self.in_blocks:
            x = block(x)
            skips.append(x)
        x = self.mid_block(x)
        for block in self.out_blocks:
            x = block(x, skips.pop())
        # Cut before the norm, whose output is contiguous: of a slice the head would be slow.
        return self.norm(x[:, context.shape[1] :])

    def unfolded(self, features: Tensor) -> Tensor:
        """Features [B, M, D] of places -> [B, N, D] of tokens, row by row."""
        if self.config.patch_size == 1:
            return features
        (height, width), patch = self.feature_grid, self.config.patch_size
        x = self.decoder_pred(features)  # [B, M, patch * patch * D]
        x = x.view(len(x), height, width, patch, patch, -1).transpose(2, 3)
        return x.flatten(3, 4).flatten(1, 2).flatten(1, 2)  # [B, height * patch * width * patch, D]

    def logits(self, hidden: Tensor) -> Tensor:
        """The tied head: `unfolded` features [..., D] -> logits [..., K] over visual tokens."""
        codes = self.token_embedding.weight[: self.config.codebook_size].detach()
        return F.linear(self.head(hidden), codes, self.head_bias)

    def _context(self, condition: Tensor) -> Tensor:
        """What conditions [B] are to the blocks, [B, L, D]; of a class L is 1."""
        if not self.config.context_size:
            return self.class_norm(self.class_embedding(condition))[:, None]
        if self._prompts is None:
            raise ValueError(
                "conditions: got none, this transformer takes prompts: give it their table by "
                "with_conditions(conditions)"
            )
        weight = self.context_embed.weight
        return self.context_embed(self._prompts.rows(condition, weight.dtype))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
