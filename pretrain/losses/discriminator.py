"""The patch discriminator of a tokenizer's training."""

import torch
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Real or reconstructed, patch by patch (Isola et al. 2017), without batch statistics."""

    def __init__(self, channels: int, width: int = 32) -> None:
        """Make one with random weights."""
        super().__init__()
        norm = torch.nn.utils.parametrizations.spectral_norm
        self.layers = nn.Sequential(
            norm(nn.Conv2d(channels, width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            norm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            norm(nn.Conv2d(2 * width, 1, 3, padding=1)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, 1, H / 4, W / 4]."""
        return self.layers(images * 2 - 1)
