"""How far apart two images are to a network that others trained (Johnson et al. 2016)."""

import torch
from torch import Tensor, nn

from nat_env.models.efficientnet import load_efficientnet_lite

SCALE = 2
"""The network sees images so many times larger: its first layers halve them twice."""


class PerceptualLoss(nn.Module):
    """Distance of the feature maps of EfficientNet-Lite1, which judges nothing here.

    At every place a map's channels are brought to length 1, as LPIPS does (Zhang et al. 2018, Eq.
    1, all weights alike); the squared differences are summed over channels and averaged over
    places, images and maps.
    """

    def __init__(self, image_size: tuple[int, int]) -> None:
        """For images of that size.

        Raises:
            ImportError: the packages of the extra `pretrain` are not installed.
        """
        super().__init__()
        self.network = load_efficientnet_lite("lite1", max(32, SCALE * max(image_size)))

    def forward(self, images: Tensor, originals: Tensor) -> Tensor:
        """Of images [B, C, H, W], with gradients, and what they are held against: a number."""
        with torch.no_grad():
            targets = [_directions(maps) for maps in self.network.stages(originals)]
        found = [_directions(maps) for maps in self.network.stages(images)]
        distances = [
            (one - other).square().sum(1).mean() for one, other in zip(found, targets, strict=True)
        ]
        return torch.stack(distances).mean()


def _directions(maps: Tensor) -> Tensor:
    """Maps [B, L, h, w] with channels of length 1."""
    return nn.functional.normalize(maps.float(), dim=1, eps=1e-6)
