"""MaskGIT's VQGAN, in the form that MAGE, MUSE, AutoNAT and AdaNAT use: factor 16, 1024 codes."""

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nat_env.frozen.batches import in_batches
from nat_env.frozen.conditions import Conditions
from nat_env.frozen.weights import load_weights, save_weights
from nat_env.models.pixels import ImagesAtOnce

PIXELS_AT_ONCE = 2**19
"""Encoded or decoded in one pass on a CPU, which takes 2 GB at the published width: it bounds the
memory, however many images there are."""
_GROUPS = 32


@dataclass(frozen=True)
class MaskGITVQGANConfig:
    """Sizes of a `MaskGITVQGAN`; by default the published ones (54.5 M parameters)."""

    image_size: tuple[int, int] = (256, 256)
    """Height and width in pixels."""
    channels: int = 3
    """Colour channels of an image."""
    codebook_size: int = 1024
    latent_channels: int = 256
    """Numbers of a code vector."""
    width: int = 128
    """At the images' resolution."""
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Of the width, by resolution; each after the first halves the resolution."""
    blocks: int = 2
    """Residual blocks at each resolution, in the encoder and in the decoder."""

    @property
    def factor(self) -> int:
        """Pixels per token along a side."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens along height and width."""
        return self.image_size[0] // self.factor, self.image_size[1] // self.factor

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels by resolution, the images' first."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: an image size that the factor does not divide, or a width that the norms'
                groups do not.
        """
        if any(side < 1 or side % self.factor for side in self.image_size):
            raise ValueError(
                f"image_size: got {self.image_size}, allowed are multiples of the tokenizer's "
                f"factor {self.factor}"
            )
        if self.width < 1 or self.width % _GROUPS:
            raise ValueError(f"width: got {self.width}, allowed are multiples of {_GROUPS}")


class MaskGITVQGAN(nn.Module):
    """Images to visual tokens and back; its tensors have the names of the published file.

    There is no attention and no convolution beside the codebook, and images are in [0, 1] inside
    too. Three things are otherwise than in the VQGAN of Esser et al. 2021, as in MaskGIT's code: a
    shortcut to another width is of the block's own output, the encoder halves by averages, and
    convolutions of blocks have no bias.
    """

    kind: ClassVar[str] = "maskgit-vqgan"

    def __init__(self, config: MaskGITVQGANConfig) -> None:
        """Make the network with random weights from torch's global generator."""
        super().__init__()
        self.config = config
        self.decoder_dtype = torch.float32
        """In which images are decoded; chosen before the first one is."""
        self._at_once = ImagesAtOnce(self._decoded, math.prod(config.grid), config.image_size)
        self.encoder, self.decoder = _Encoder(config), _Decoder(config)
        self.quantize = nn.ModuleDict(
            {"embedding": nn.Embedding(config.codebook_size, config.latent_channels)}
        )

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.config.image_size

    @property
    def channels(self) -> int:
        """Colour channels of an image."""
        return self.config.channels

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens along height and width."""
        return self.config.grid

    @property
    def codebook_size(self) -> int:
        """K."""
        return self.config.codebook_size

    @property
    def codebook(self) -> Tensor:
        """The code vectors [K, latent_channels]."""
        weight: Any = self.quantize["embedding"].weight
        return weight

    def latents(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] -> latents before quantisation [B, latents, h, w]."""
        return self.encoder(images)

    def images(self, latents: Tensor) -> Tensor:
        """Latents [B, latents, h, w] -> images [B, C, H, W], not clipped."""
        return self.decoder(latents)

    def nearest(self, latents: Tensor) -> Tensor:
        """The codes nearest to latents [B, latents, h, w]: ids [B, h * w], row by row."""
        vectors, codes = latents.flatten(2).transpose(1, 2), self.codebook  # [B, N, latents]
        # |v - c|^2 without |v|^2, which is the same for all codes: [B, N, K]
        distances = codes.square().sum(dim=1) - 2 * vectors @ codes.T
        return distances.argmin(dim=2)

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] -> ids [B, N] int64, row by row."""
        rows = self._at_once.on(images.device, PIXELS_AT_ONCE)
        return in_batches(
            lambda batch: self.nearest(self.latents(batch.float())), images, batch_size=rows
        )

    def decode(self, ids: Tensor) -> Tensor:
        """Ids [B, N] -> images [B, C, H, W] in [0, 1], float32."""
        rows = self._at_once.on(ids.device, PIXELS_AT_ONCE)
        return in_batches(self._decoded, ids, batch_size=rows)

    def _decoded(self, ids: Tensor) -> Tensor:
        latents = self.codebook[ids].transpose(1, 2).unflatten(2, self.grid)  # [b, latents, h, w]
        return self._decoding(latents.to(self.decoder_dtype)).float().clamp(0, 1)

    @cached_property
    def _decoding(self) -> nn.Module:
        """The decoder in the precision that is asked for."""
        if self.decoder_dtype == torch.float32:
            return self.decoder
        return copy.deepcopy(self.decoder).to(self.decoder_dtype)

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        """As `nn.Module` has it, for `to`: what was of the old device is forgotten."""
        self.__dict__.pop("_decoding", None)
        return super()._apply(*args, **kwargs)

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Stored`."""
        save_weights(self, folder)
        return asdict(self.config)

    @classmethod
    def load(
        cls, folder: Path, config: Mapping[str, Any], conditions: Conditions
    ) -> "MaskGITVQGAN":
        """See `Stored`."""
        values: dict[str, Any] = dict(config)
        values |= {name: tuple(values[name]) for name in ("image_size", "multipliers")}
        vqgan = cls(MaskGITVQGANConfig(**values))
        load_weights(vqgan, folder)
        return vqgan.eval().requires_grad_(False)


class _Encoder(nn.Module):
    """Images [B, C, H, W] -> latents [B, latents, h, w]."""

    def __init__(self, config: MaskGITVQGANConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = _convolution(config.channels, widths[0])
        self.down = nn.ModuleList(
            _Level(before, after, config.blocks)
            for before, after in zip((widths[0], *widths), widths, strict=False)
        )
        self.mid = _Middle(widths[-1])
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.latent_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for number, level in enumerate(self.down):
            x = level(F.avg_pool2d(x, 2) if number else x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class _Decoder(nn.Module):
    """Latents [B, latents, h, w] -> images [B, C, H, W]."""

    def __init__(self, config: MaskGITVQGANConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.mid = _Middle(widths[-1])
        self.up = nn.ModuleList(  # by resolution, the images' first
            _Level(before, after, config.blocks, upsample=number > 0)
            for number, (before, after) in enumerate(
                zip((*widths[1:], widths[-1]), widths, strict=True)
            )
        )
        self.norm_out = _norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class _Level(nn.Module):
    """What is done at one resolution; with `upsample` it ends at twice that."""

    def __init__(self, before: int, after: int, blocks: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *(_ResidualBlock(after if number else before, after) for number in range(blocks))
        )
        self.upsample = None
        if upsample:
            self.upsample = nn.Sequential()
            self.upsample.add_module("conv", nn.Conv2d(after, after, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:  # [B, before, h, w] -> [B, after, h or 2h, w or 2w]
        x = self.block(x)
        if self.upsample is None:
            return x
        return self.upsample(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class _Middle(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1, self.block_2 = _ResidualBlock(width, width), _ResidualBlock(width, width)

    def forward(self, x: Tensor) -> Tensor:  # [B, width, h, w]
        return self.block_2(self.block_1(x))


class _ResidualBlock(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(before), _convolution(before, after)
        self.norm2, self.conv2 = _norm(after), _convolution(after, after)
        widens = before != after
        self.nin_shortcut = nn.Conv2d(after, after, 1, bias=False) if widens else None

    def forward(self, x: Tensor) -> Tensor:  # [B, before, h, w] -> [B, after, h, w]
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        # A shortcut is not of x: the published weights are trained so.
        return hidden + (x if self.nin_shortcut is None else self.nin_shortcut(hidden))


def _convolution(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, bias=False)


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(_GROUPS, width, eps=1e-6)
