"""aMUSEd's transformer: diffusers' `UVit2DModel`, conditioned on prompts (arXiv 2401.01808)."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from nat_env.frozen.conditions import Conditions
from nat_env.frozen.protocol import NATOutput
from nat_env.models.diffusers_folder import load_model, save_model


@dataclass(frozen=True)
class AmusedConfig:
    """What `AmusedPipeline` tells its transformer beside ids and prompt."""

    grid: tuple[int, int]
    """Tokens along height and width."""
    original_size: tuple[int, int]
    """Height and width in pixels that the image is to look as if it had had."""
    crop: tuple[int, int] = (0, 0)
    """Of the original, as the pipeline's `micro_conditioning_crop_coord`."""
    aesthetic_score: float = 6.0

    def __post_init__(self) -> None:
        """Check the grid.

        Raises:
            ValueError: it has no places.
        """
        if min(self.grid) < 1:
            raise ValueError(f"grid: got {self.grid}, allowed are integers >= 1")


class Amused(nn.Module):
    """A `UVit2DModel` that knows its prompts: the rows of the bundle's table of conditions.

    The prompt's tokens are `Conditions.context`, as cross-attention takes them, its one vector is
    `Conditions.pooled`; they are where the table was loaded, and rows of them are moved when they
    are needed. The micro-conditions are constants.
    """

    kind: ClassVar[str] = "amused"

    def __init__(self, network: Any, config: AmusedConfig, conditions: Conditions) -> None:
        """Wrap `network`, a `UVit2DModel`.

        Raises:
            ValueError: conditions without context and pooled rows, or rows of another width, or a
                grid that the network cannot halve.
        """
        super().__init__()
        self.network = network
        self.config = config
        if self._halves and any(side % 2 for side in config.grid):
            raise ValueError(f"grid: got {config.grid}, allowed are even numbers, as it is halved")
        self._table = self._checked(conditions)

    def with_conditions(self, conditions: Conditions) -> Self:
        """The same network, its weights shared, with another table of prompts.

        Raises:
            ValueError: see the constructor.
        """
        other = copy.copy(self)
        other._table = self._checked(conditions)
        return other

    def _checked(self, conditions: Conditions) -> tuple[Tensor, Tensor]:
        context, pooled = conditions.context, conditions.pooled
        widths = (self.network.config.encoder_hidden_size, self.network.config.cond_embed_dim)
        found = (context is not None and context.shape[2], pooled is not None and pooled.shape[1])
        if context is None or pooled is None or found != widths:
            raise ValueError(
                f"conditions: got context and pooled of widths {found}, allowed are {widths}: "
                "hidden states and projected embeddings of the prompts, as aMUSEd's text encoder "
                "gives them"
            )
        return context, pooled

    @property
    def num_tokens(self) -> int:
        """N."""
        return self.config.grid[0] * self.config.grid[1]

    @property
    def codebook_size(self) -> int:
        """K."""
        return int(self.network.config.codebook_size)

    @property
    def mask_id(self) -> int:
        """The id of a masked token: the vocabulary's last, which leaves some ids unused."""
        return int(self.network.config.vocab_size) - 1

    @property
    def _halves(self) -> bool:
        """Whether the transformer's layers see a grid of half as many places along each side."""
        return bool(self.network.config.downsample)

    @property
    def feature_grid(self) -> tuple[int, int]:
        """The tokens' grid, or half of it where the transformer's layers work on that."""
        height, width = self.config.grid
        return (height // 2, width // 2) if self._halves else (height, width)

    @property
    def _norm(self) -> Any:
        """The norm whose output is the features: the last one on the transformer's own grid.

        At 256 pixels that is the head's, of which the logits are a linear map; at 512 that after
        the transformer's layers, as the head's stands behind an up-sampling by convolutions.
        """
        if self._halves:
            return self.network.project_from_hidden_norm
        return self.network.mlm_layer.layer_norm

    @property
    def feature_size(self) -> int:
        """D: the width of the norm."""
        return int(self._norm.dim[0])

    @property
    def feature_bound(self) -> float:
        """No output of an RMS norm over D numbers exceeds sqrt(D) |gamma|.

        The bound is doubled: in bfloat16 an output may round past it.
        """
        weight = self._norm.weight
        gamma = 1.0 if weight is None else float(weight.float().abs().max())
        return max(1.0, 2 * self.feature_size**0.5 * gamma)

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Stored`: diffusers' layout."""
        save_model(self.network, folder)
        return asdict(self.config)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], conditions: Conditions) -> Self:
        """See `Stored`."""
        from diffusers.models.unets.uvit_2d import UVit2DModel

        pairs = {name: tuple(config[name]) for name in ("grid", "original_size", "crop")}
        told = AmusedConfig(**pairs, aesthetic_score=config["aesthetic_score"])
        return cls(load_model(UVit2DModel, folder), told, conditions)

    def forward(self, ids: Tensor, condition: Tensor) -> NATOutput:
        """One pass.

        Args:
            ids: tokens [R, N], int64, `mask_id` where masked.
            condition: rows of the table [R], int64.

        Returns:
            `logits` [R, N, K] of every position, and `features` [R, M, D], see `feature_grid`.
        """
        rows = condition.to(self._table[0].device)
        weights = next(self.network.parameters())
        context, pooled = (t[rows].to(weights.device, weights.dtype) for t in self._table)
        with _output_of(self._norm) as seen:
            logits = self.network(
                ids.view(-1, *self.config.grid),  # [R, h, w]
                encoder_hidden_states=context,
                pooled_text_emb=pooled,
                micro_conds=self._micro_conditions().to(ids.device).expand(len(ids), -1),
            )
        features = seen[0].view(len(ids), -1, self.feature_size)  # [R, M, D]
        return NATOutput(logits.flatten(2).transpose(1, 2), features)  # of [R, K, h, w]

    def _micro_conditions(self) -> Tensor:
        """[1, 5]: width, height, crop and score, in the order of `AmusedPipeline`."""
        height, width = self.config.original_size
        told = (width, height, *self.config.crop, self.config.aesthetic_score)
        return torch.tensor([told], dtype=torch.float32)


@contextmanager
def _output_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """A list that what `module` gives inside is appended to."""
    seen: list[Tensor] = []

    def keep(_: Any, __: Any, output: Tensor) -> None:
        seen.append(output)

    hook = module.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()
