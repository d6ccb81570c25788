"""What the models are trained on: many versions of each image, each with a wording of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nat_env.models.pixels import to_float, to_uint8
from nat_env.text.sentences import STYLE_SIZE
from pretrain.captioned.augmentation import moved, reduced
from pretrain.data.captioned import CaptionedImages

_AT_ONCE = 1024


@dataclass(frozen=True)
class VersionsConfig:
    """How many versions of each image, and how they differ."""

    count: int = 48
    """Of each image; the first is the image itself with its own caption."""
    moved: float = 0.7
    """Share of the others that are shifted, scaled, turned or mirrored."""
    own_wording: float = 0.5
    """Share of them that have the caption's own description; others have any of them."""
    no_style: float = 0.1
    """Share of them whose style is not told."""
    jitter: float = 0.2
    """Standard deviation of the noise on the numbers of a description, which are about 1: what is
    learned of a wording holds for those near it."""


@dataclass(frozen=True, eq=False)
class Versions:
    """V of them, on the CPU."""

    images: Tensor
    """[V, 3, size, size] uint8."""
    pooled: Tensor
    """[V, E] float16: what the text encoder says, see `StyledSentences`, with noise."""
    moved: Tensor
    """[V] bool: other than the image itself."""
    of: Tensor
    """[V] int64: numbers of the images in the data, `VersionsConfig.count` of each in a row."""


def versions_of(
    data: CaptionedImages,
    sentences: Mapping[str, Tensor],
    numbers: Tensor,
    size: int,
    config: VersionsConfig,
    seed: int,
    device: torch.device,
) -> Versions:
    """Versions of some images.

    Args:
        data: larger than `size`, which they are reduced to after they were moved.
        sentences: of each description, [S].
        numbers: of the images [n].
        size: side in pixels.
        config: how they differ.
        seed: of all that is drawn.
        device: where the images are moved; what is given is on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    of = numbers.repeat_interleave(config.count)  # [V]
    total = len(of)
    is_first = torch.arange(total) % config.count == 0
    is_moved = ~is_first & (torch.rand(total, generator=generator) < config.moved)
    styled = is_first | (torch.rand(total, generator=generator) >= config.no_style)
    own = is_first | (torch.rand(total, generator=generator) < config.own_wording)
    draws = torch.rand(total, generator=generator)
    texts = []
    for image, is_own, draw in zip(of.tolist(), own.tolist(), draws.tolist(), strict=True):
        wordings = data.descriptions[image]
        texts.append(sentences[wordings[0 if is_own else int(draw * len(wordings))]])
    described = torch.stack(texts)  # [V, S]
    noise = torch.randn(described.shape, generator=generator)
    described = described + config.jitter * noise * ~is_first[:, None]
    style = style_numbers(data.style[of], len(data.styles)) * styled[:, None]
    images = torch.empty(total, 3, size, size, dtype=torch.uint8)
    for rows in torch.arange(total).split(_AT_ONCE):
        whole = to_float(data.images[of[rows]].to(device))
        other = moved(whole, data.flips[of[rows]], generator)
        chosen = torch.where(is_moved[rows].to(device)[:, None, None, None], other, whole)
        images[rows] = to_uint8(reduced(chosen, size)).cpu()
    return Versions(images, torch.cat([described, style], dim=1).half(), is_moved, of)


def style_numbers(style: Tensor, count: int) -> Tensor:
    """Styles [n] -> [n, count], `STYLE_SIZE` at the style's place."""
    return STYLE_SIZE * F.one_hot(style, count).float()


def table_of(data: CaptionedImages, sentences: Mapping[str, Tensor]) -> Tensor:
    """What the text encoder says of every image's own caption, and zeros for none: [n + 1, E]."""
    described = torch.stack([sentences[wordings[0]] for wordings in data.descriptions])
    rows = torch.cat([described, style_numbers(data.style, len(data.styles))], dim=1)
    return torch.cat([rows, torch.zeros(1, rows.shape[1])]).half()


def distinct(descriptions: Sequence[Sequence[str]]) -> list[str]:
    """Every wording once, in order."""
    return list(dict.fromkeys(text for wordings in descriptions for text in wordings))
