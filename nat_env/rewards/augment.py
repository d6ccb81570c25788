"""Differentiable augmentation of what a discriminator is trained on (DiffAugment, Zhao 2020)."""

import torch
from torch import Tensor

from nat_env.frozen.transfers import sent


def augment(
    images: Tensor,
    generator: torch.Generator,
    own: slice = slice(None),
    count: int | None = None,
) -> Tensor:
    """Brightness, contrast, translation and cutout, drawn for each image on its own.

    Real and generated images have to be treated alike, and images that are rewarded not at all.
    Differentiable in the images.

    Args:
        images: [B, C, H, W] in [0, 1]; the result may leave that range by its brightness.
        generator: on the CPU.
        own: which of all images these B are.
        count: of all images, by default B.

    Returns:
        [B, C, H, W].
    """
    batch, _, height, width = images.shape

    def draw(low: float, high: float) -> Tensor:
        uniforms = torch.rand(count or batch, generator=generator, dtype=torch.float32)
        uniforms = uniforms[own] * (high - low) + low
        return sent(uniforms, images.device).view(batch, 1, 1, 1)

    images = images + draw(-0.25, 0.25)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * draw(0.75, 1.25) + mean
    # A shift by up to an eighth; what comes in from outside is black.
    rows = torch.arange(height, device=images.device).view(1, 1, height, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, 1, width)
    down = draw(-height / 8, height / 8).round().long()
    right = draw(-width / 8, width / 8).round().long()
    images = _shifted(_shifted(images, rows - down, dim=2), columns - right, dim=3)
    # A hole of a quarter of each side, anywhere.
    top, left = draw(0, height).long(), draw(0, width).long()
    hole = (rows - top).abs().mul(8).le(height) & (columns - left).abs().mul(8).le(width)
    return images.masked_fill(hole, 0.0)


def _shifted(images: Tensor, source: Tensor, dim: int) -> Tensor:
    """Rows or columns taken from `source`; zeros where it lies outside."""
    size = images.shape[dim]
    inside = (source >= 0) & (source < size)
    index = source.clamp(0, size - 1).expand_as(images)
    return images.gather(dim, index) * inside
