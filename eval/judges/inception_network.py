"""The network of the Frechet Inception Distance: TensorFlow's InceptionV3 of December 2015.

The architecture is that of Szegedy et al. 2015 ("Rethinking the Inception Architecture for Computer
Vision", arXiv:1512.00567). What later libraries call InceptionV3 differs from this release: here
averages do not count the padding, the last block pools by maximum, and there are 1008 classes.
Modules are named as in the published weights, see `eval.judges.inception`.
"""

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_RESOLUTION = 299


class Conv(NamedTuple):
    """One named convolution of a block: no padding at stride 2, otherwise the size is kept."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


Branch = tuple[tuple[Conv, ...], ...]
"""Places in a row; the convolutions of one place read the same input, their outputs are joined."""


class ConvNorm(nn.Module):
    """A convolution without bias, batch normalisation and ReLU."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: tuple[int, int],
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
    ) -> None:
        """Build with torch's random weights; the names are those of the published file."""
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, channels, H', W']."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.ModuleDict):
    """An Inception block: branches of convolutions and one of pooling, joined by channels.

    Args:
        in_channels: C of the input.
        branches: in the order in which their outputs are joined.
        pool: 3x3, the last branch. ``nn.AvgPool2d`` must not count the padding
            (``count_include_pad=False``), as TensorFlow does not.
        pool_channels: of the 1x1 convolution after it, or None for none.
    """

    def __init__(
        self,
        in_channels: int,
        branches: tuple[Branch, ...],
        pool: nn.Module,
        pool_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.branches = branches
        self.out_channels = 0
        for branch in branches:
            channels = in_channels
            for place in branch:
                for conv in place:
                    self[conv.name] = _conv_norm(channels, conv)
                channels = sum(conv.channels for conv in place)
            self.out_channels += channels
        if pool_channels is not None:
            self["branch_pool"] = ConvNorm(in_channels, pool_channels, (1, 1))
        self.out_channels += in_channels if pool_channels is None else pool_channels
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, out_channels, H', W']."""
        outputs = []
        for branch in self.branches:
            y = x
            for place in branch:
                y = torch.cat([self[conv.name](y) for conv in place], dim=1)
            outputs.append(y)
        pooled = self.pool(x)
        outputs.append(self["branch_pool"](pooled) if "branch_pool" in self else pooled)
        return torch.cat(outputs, dim=1)


class InceptionV3(nn.Module):
    """The FID's InceptionV3, frozen and in eval mode, with random weights until they are loaded."""

    num_features = 2048
    num_classes = 1008

    def __init__(self) -> None:
        super().__init__()
        self._layers = _layers()
        for name, layer in self._layers.items():
            self.add_module(name, layer)
        self.fc = nn.Linear(self.num_features, self.num_classes)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Compute the pooled embeddings of the Frechet Inception Distance.

        The protocol's order: to 8 bits, as in a PNG; to 299 pixels, bilinear, without antialiasing;
        to [-1, 1].

        Args:
            images: float32 [B, C, H, W] in [0, 1] with C = 1 (grey) or 3. An image that is not
                square is squeezed.

        Returns:
            float32 [B, 2048] on the network's device.

        Raises:
            ValueError: If C is neither 1 nor 3.
        """
        if images.shape[1] not in (1, 3):
            raise ValueError(f"images: allowed are 1 or 3 channels, got {images.shape[1]}")
        images = (images.to(self.fc.weight.device) * 255).round() / 255
        size = (_RESOLUTION, _RESOLUTION)
        resized = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        # With channels last, a CPU's convolutions take two thirds of the time.
        x = (2 * resized - 1).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        for layer in self._layers.values():
            x = layer(x)
        return x.mean(dim=(2, 3))

    def logits(self, embeddings: Tensor, bias: bool = True) -> Tensor:
        """Classify embeddings.

        Args:
            embeddings: [B, 2048], of `forward`.
            bias: False for the original Inception Score, whose code leaves the bias out.

        Returns:
            float32 [B, 1008] on the network's device.
        """
        embeddings = embeddings.to(self.fc.weight.device)
        return F.linear(embeddings, self.fc.weight, self.fc.bias if bias else None)


def _layers() -> OrderedDict[str, nn.Module]:
    """The network up to its last feature map, by the names of the published file."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        Conv2d_1a_3x3=ConvNorm(3, 32, (3, 3), stride=2),
        Conv2d_2a_3x3=ConvNorm(32, 32, (3, 3)),
        Conv2d_2b_3x3=ConvNorm(32, 64, (3, 3), padding=(1, 1)),
        pool_2=nn.MaxPool2d(3, stride=2),
        Conv2d_3b_1x1=ConvNorm(64, 80, (1, 1)),
        Conv2d_4a_3x3=ConvNorm(80, 192, (3, 3)),
        pool_4=nn.MaxPool2d(3, stride=2),
    )
    channels = 192
    for name, build in (
        ("Mixed_5b", lambda c: _block_a(c, 32)),
        ("Mixed_5c", lambda c: _block_a(c, 64)),
        ("Mixed_5d", lambda c: _block_a(c, 64)),
        ("Mixed_6a", _block_b),
        ("Mixed_6b", lambda c: _block_c(c, 128)),
        ("Mixed_6c", lambda c: _block_c(c, 160)),
        ("Mixed_6d", lambda c: _block_c(c, 160)),
        ("Mixed_6e", lambda c: _block_c(c, 192)),
        ("Mixed_7a", _block_d),
        ("Mixed_7b", lambda c: _block_e(c, _average())),
        # The release's one max pool among its averages.
        ("Mixed_7c", lambda c: _block_e(c, nn.MaxPool2d(3, stride=1, padding=1))),
    ):
        block = build(channels)
        layers[name], channels = block, block.out_channels
    return layers


def _block_a(in_channels: int, pool_channels: int) -> Mixed:
    """Of the 35 x 35 maps."""
    branches = (
        _row(Conv("branch1x1", 64)),
        _row(Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5))),
        _row(
            Conv("branch3x3dbl_1", 64),
            Conv("branch3x3dbl_2", 96, (3, 3)),
            Conv("branch3x3dbl_3", 96, (3, 3)),
        ),
    )
    return Mixed(in_channels, branches, _average(), pool_channels)


def _block_b(in_channels: int) -> Mixed:
    """From 35 x 35 to 17 x 17."""
    branches = (
        _row(Conv("branch3x3", 384, (3, 3), stride=2)),
        _row(
            Conv("branch3x3dbl_1", 64),
            Conv("branch3x3dbl_2", 96, (3, 3)),
            Conv("branch3x3dbl_3", 96, (3, 3), stride=2),
        ),
    )
    return Mixed(in_channels, branches, nn.MaxPool2d(3, stride=2))


def _block_c(in_channels: int, width: int) -> Mixed:
    """Of the 17 x 17 maps, with 7 x 7 convolutions in two factors."""
    branches = (
        _row(Conv("branch1x1", 192)),
        _row(
            Conv("branch7x7_1", width),
            Conv("branch7x7_2", width, (1, 7)),
            Conv("branch7x7_3", 192, (7, 1)),
        ),
        _row(
            Conv("branch7x7dbl_1", width),
            Conv("branch7x7dbl_2", width, (7, 1)),
            Conv("branch7x7dbl_3", width, (1, 7)),
            Conv("branch7x7dbl_4", width, (7, 1)),
            Conv("branch7x7dbl_5", 192, (1, 7)),
        ),
    )
    return Mixed(in_channels, branches, _average(), 192)


def _block_d(in_channels: int) -> Mixed:
    """From 17 x 17 to 8 x 8."""
    branches = (
        _row(Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, (3, 3), stride=2)),
        _row(
            Conv("branch7x7x3_1", 192),
            Conv("branch7x7x3_2", 192, (1, 7)),
            Conv("branch7x7x3_3", 192, (7, 1)),
            Conv("branch7x7x3_4", 192, (3, 3), stride=2),
        ),
    )
    return Mixed(in_channels, branches, nn.MaxPool2d(3, stride=2))


def _block_e(in_channels: int, pool: nn.Module) -> Mixed:
    """Of the 8 x 8 maps; the branches end in two convolutions side by side."""
    branches = (
        _row(Conv("branch1x1", 320)),
        (
            (Conv("branch3x3_1", 384),),
            (Conv("branch3x3_2a", 384, (1, 3)), Conv("branch3x3_2b", 384, (3, 1))),
        ),
        (
            (Conv("branch3x3dbl_1", 448),),
            (Conv("branch3x3dbl_2", 384, (3, 3)),),
            (Conv("branch3x3dbl_3a", 384, (1, 3)), Conv("branch3x3dbl_3b", 384, (3, 1))),
        ),
    )
    return Mixed(in_channels, branches, pool, 192)


def _row(*convs: Conv) -> Branch:
    return tuple((conv,) for conv in convs)


def _conv_norm(in_channels: int, conv: Conv) -> ConvNorm:
    height, width = conv.kernel
    padding = (height // 2, width // 2) if conv.stride == 1 else (0, 0)
    return ConvNorm(in_channels, conv.channels, conv.kernel, conv.stride, padding)


def _average() -> nn.AvgPool2d:
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
