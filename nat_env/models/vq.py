"""Images to visual tokens and back: diffusers' `VQModel`."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nat_env.frozen.batches import in_batches
from nat_env.frozen.conditions import Conditions
from nat_env.frozen.precision import float32_default, without_autocast
from nat_env.models.diffusers_folder import load_model, read_config, save_model
from nat_env.models.pixels import ImagesAtOnce

PIXELS_AT_ONCE = 2**20
"""Decoded in one pass on a CPU: it bounds the memory, however many images there are."""


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of a `VQTokenizer`; whatever else a `VQModel` has is in its own config.json."""

    image_size: tuple[int, int]
    """Height and width in pixels."""
    channels: int
    """Colour channels of an image: 1 or 3."""
    codebook_size: int
    patch_size: int = 1
    """Pixels of a patch x patch square become channels before the network: cheap down-sampling."""
    block_out_channels: tuple[int, ...] = (32, 64)
    """Widths by resolution; each after the first halves the resolution."""
    layers_per_block: int = 1
    latent_channels: int = 8
    norm_num_groups: int = 8
    input_range: tuple[float, float] = (-1.0, 1.0)
    """What black and white are inside the network: (-1, 1), or (0, 1) as MaskGIT's and MAGE's have
    it. It matters at the padding of convolutions, which is 0 inside."""
    priced: bool = False
    """Codes have one number more, where latents have 0: the root of a price that is added to their
    squared distance, see `TokenizerTraining.rate_weight`."""

    @property
    def factor(self) -> int:
        """Pixels per token along a side."""
        return self.patch_size * 2 ** (len(self.block_out_channels) - 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens along height and width."""
        return self.image_size[0] // self.factor, self.image_size[1] // self.factor

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: an image size that the factor does not divide, or another range.
        """
        if any(side < 1 or side % self.factor for side in self.image_size):
            raise ValueError(
                f"image_size: got {self.image_size}, allowed are multiples of the tokenizer's "
                f"factor {self.factor}"
            )
        if tuple(self.input_range) not in ((-1, 1), (0, 1)):
            raise ValueError(f"input_range: got {self.input_range}, allowed are (-1, 1) and (0, 1)")


class VQTokenizer:
    """A diffusers `VQModel` with images in [0, 1] on one side and ids [B, N] on the other."""

    kind: ClassVar[str] = "vq"

    def __init__(self, config: TokenizerConfig, folder: Path | None = None) -> None:
        """Wrap the model in `folder`, or one with random weights.

        It is made when it is first needed: diffusers is slow to import.
        """
        self.config = config
        self.decoder_dtype = torch.float32
        """In which images are decoded; chosen before the first one is."""
        self._at_once = ImagesAtOnce(self._decoded, math.prod(config.grid), config.image_size)
        self._folder = folder
        self._device: Any = "cpu"

    @classmethod
    def of_folder(
        cls, folder: Path, image_size: tuple[int, int], input_range: tuple[float, float]
    ) -> "VQTokenizer":
        """Any `VQModel` that diffusers saved.

        Args:
            folder: with its config.json and weights.
            image_size: height and width in pixels.
            input_range: what black and white are for it, which diffusers does not write down:
                (0, 1) of aMUSEd's.

        Raises:
            ValueError: files that are missing or damaged, another class of model, or an image size
                that it does not divide into tokens.
        """
        told = read_config(folder, "VQModel")
        if told["in_channels"] != told["out_channels"]:
            raise ValueError(
                f"folder: {folder} turns {told['in_channels']} channels into "
                f"{told['out_channels']}, allowed are as many"
            )
        sizes = ("layers_per_block", "latent_channels", "norm_num_groups")
        config = TokenizerConfig(
            image_size=image_size,
            channels=told["in_channels"],
            codebook_size=told["num_vq_embeddings"],
            block_out_channels=tuple(told["block_out_channels"]),
            input_range=input_range,
            **{name: told[name] for name in sizes},
        )
        return cls(config, folder)

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

    @cached_property
    def vq(self) -> Any:
        """The `VQModel`; frozen where it is from a folder."""
        from diffusers.models.autoencoders.vq_model import VQModel

        if self._folder is not None:
            return load_model(VQModel, self._folder).to(self._device)
        config = self.config
        channels = config.channels * config.patch_size**2
        levels = len(config.block_out_channels)
        with float32_default():
            vq = VQModel(
                in_channels=channels,
                out_channels=channels,
                down_block_types=("DownEncoderBlock2D",) * levels,
                up_block_types=("UpDecoderBlock2D",) * levels,
                block_out_channels=config.block_out_channels,
                layers_per_block=config.layers_per_block,
                latent_channels=config.latent_channels,
                vq_embed_dim=config.latent_channels + config.priced,
                num_vq_embeddings=config.codebook_size,
                norm_num_groups=config.norm_num_groups,
                mid_block_add_attention=False,
            )
        return vq.to(self._device)

    def to(self, device: Any) -> "VQTokenizer":
        """Move to a device, in place."""
        self._device = device
        self.__dict__.pop("_decoding", None)
        if "vq" in self.__dict__:
            self.vq.to(device)
        return self

    @property
    def codebook(self) -> Tensor:
        """The code vectors [K, L], the last number of priced ones the root of their price."""
        return self.vq.quantize.embedding.weight

    def latents(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] -> latents before quantisation [B, L, h, w]."""
        low, high = self.config.input_range
        inside = images * (high - low) + low
        return self.vq.encode(F.pixel_unshuffle(inside, self.config.patch_size)).latents

    def images(self, latents: Tensor) -> Tensor:
        """Quantised latents [B, L, h, w] -> images [B, C, H, W], not clipped."""
        return self._images(latents, self.vq.post_quant_conv, self.vq.decoder)

    def _images(self, latents: Tensor, post_quant_conv: Any, decoder: Any) -> Tensor:
        # What `VQModel.decode` does after its lookup, which some models have and others have not.
        spatial = latents if self.vq.config.norm_type == "spatial" else None
        patches = decoder(post_quant_conv(latents), spatial)
        low, high = self.config.input_range
        return (F.pixel_shuffle(patches, self.config.patch_size) - low) / (high - low)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] -> ids [B, N] int64, row-major."""
        rows = self._at_once.on(images.device, PIXELS_AT_ONCE)
        with without_autocast(images.device):
            return in_batches(self._encoded, images, batch_size=rows)

    def _encoded(self, images: Tensor) -> Tensor:
        _, _, (_, _, ids) = self.vq.quantize(self.latents(images))
        return ids.view(len(images), -1)

    @torch.no_grad()
    def decode(self, ids: Tensor) -> Tensor:
        """Ids [B, N] -> images [B, C, H, W] in [0, 1], float32."""
        rows = self._at_once.on(ids.device, PIXELS_AT_ONCE)
        return in_batches(self._decoded, ids, batch_size=rows).clamp(0, 1).float()

    def _decoded(self, ids: Tensor) -> Tensor:
        latents = self.codebook[ids.view(-1, *self.config.grid)]  # [b, h, w, L]
        latents = latents.permute(0, 3, 1, 2).to(self.decoder_dtype)
        return self._images(latents.contiguous(), *self._decoding)

    @cached_property
    def _decoding(self) -> Sequence[Any]:
        """The layers of `_images` in the precision that is asked for."""
        layers = self.vq.post_quant_conv, self.vq.decoder
        if self.decoder_dtype == torch.float32:
            return layers
        return [copy.deepcopy(layer).to(self.decoder_dtype) for layer in layers]

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Stored`: diffusers' layout."""
        save_model(self.vq, folder)
        return asdict(self.config)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], conditions: Conditions) -> "VQTokenizer":
        """See `Stored`."""
        values: dict[str, Any] = dict(config)
        for name in ("image_size", "block_out_channels", "input_range"):
            if name in values:  # files before `input_range` have none
                values[name] = tuple(values[name])
        return cls(TokenizerConfig(**values), folder)
