"""A small model of images and texts: how near an image is to each prompt of a table."""

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
from nat_env.frozen.transfers import sent
from nat_env.frozen.weights import load_weights, save_weights
from nat_env.models.classifier import Tower

MAX_SCALE = 100.0
"""Of cosines, as CLIP bounds it: a larger one makes training unstable."""


@dataclass(frozen=True)
class MatcherConfig:
    """Sizes of a `Matcher`."""

    channels: int
    text_size: int
    """E: numbers of a prompt's pooled vector."""
    widths: tuple[int, ...] = (32, 64, 64)
    """Width of each stage; each stage halves the resolution."""


class Matcher(Tower):
    """A `Classifier` whose classes are the prompts of a table, told by their pooled vectors.

    The logit of an image and a prompt is the cosine of the prompt's vector and of what a linear
    head makes of the image's embedding, times a learned scale (Radford et al. 2021, CLIP, with
    frozen texts). Prompts that training did not have are told apart, too.
    """

    kind: ClassVar[str] = "matcher"

    def __init__(self, config: MatcherConfig) -> None:
        """Make one with random weights, and without a table."""
        super().__init__(config.channels, config.widths)
        self.config = config
        self.num_conditions = 0
        self.head = nn.Linear(self.embedding_size, config.text_size)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self._pooled: Tensor | None = None
        self._texts: Tensor | None = None
        """[C, E] of length 1, where they were asked for last."""

    def with_conditions(self, conditions: Conditions) -> Self:
        """The same network, of the same weights, for another table of conditions.

        Raises:
            ValueError: no pooled vectors of E numbers.
        """
        pooled = conditions.pooled
        if pooled is None or pooled.shape[1] != self.config.text_size:
            found = None if pooled is None else tuple(pooled.shape)
            allowed = (len(conditions) + 1, self.config.text_size)
            raise ValueError(
                f"conditions: got pooled {found}, allowed is {allowed}: a row for each prompt and "
                "one for none, of the size that the matcher was made for"
            )
        other = copy.copy(self)
        other.num_conditions, other._pooled, other._texts = len(conditions), pooled, None
        return other

    def classifier(self, embeddings: Tensor) -> Tensor:
        """Embeddings [B, D] -> logits [B, C] of the table's prompts.

        Raises:
            ValueError: there is no table.
        """
        if self._pooled is None:
            raise ValueError(
                "conditions: got none, a matcher tells prompts apart: give it their table by "
                "with_conditions(conditions)"
            )
        if self._texts is None or self._texts.device != embeddings.device:
            texts = sent(self._pooled[:-1], embeddings.device).float()  # without that of no prompt
            self._texts = F.normalize(texts, dim=1)
        return self._logits(embeddings, self._texts)

    def matched(self, images: Tensor, texts: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] and pooled vectors [P, E] -> logits [B, P]."""
        return self._logits(self.embeddings(images), F.normalize(texts, dim=1))

    def _logits(self, embeddings: Tensor, texts: Tensor) -> Tensor:
        scale = self.log_scale.exp().clamp(max=MAX_SCALE)
        return scale * F.normalize(self.head(embeddings), dim=1) @ texts.T

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Stored`. The table of conditions is the bundle's."""
        save_weights(self, folder)
        return asdict(self.config)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], conditions: Conditions) -> Self:
        """See `Stored`."""
        values: dict[str, Any] = dict(config) | {"widths": tuple(config["widths"])}
        matcher = cls(MatcherConfig(**values)).with_conditions(conditions)
        load_weights(matcher, folder)
        return matcher.eval().requires_grad_(False)
