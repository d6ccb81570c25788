"""Frozen pretrained networks that a discriminator's heads stand on."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from nat_env.bundles.bundle import Bundle
from nat_env.models.classifier import Tower
from nat_env.models.transformers_folder import load_whole


class Trunk(Protocol):
    """Feature maps of images at several stages; frozen, in eval mode, each image on its own."""

    @property
    def stage_sizes(self) -> Sequence[int]:
        """Channels of each stage."""
        ...

    def stages(self, images: Tensor) -> Sequence[Tensor]:
        """Images [B, C, H, W] in [0, 1] -> one map [B, size, h, w] for each of `stage_sizes`."""
        ...


class ClassifierTrunk:
    """All stages but the first of a bundle's trunk, which is not its judge."""

    def __init__(self, tower: Tower) -> None:
        """Stand on `tower`."""
        self.tower = tower
        self.stage_sizes = tower.widths[1:]

    def stages(self, images: Tensor) -> list[Tensor]:
        """See `Trunk`."""
        return self.tower.stages(images)[1:]


class VisionTransformerTrunk:
    """Patch tokens of a transformer such as DINO's, after several of its layers (StyleGAN-T, 3.2).

    Each token has the class token added, as StyleGAN-T's "readout" has it. With `embedding`, four
    stages and a resolution of 224, DINO ViT-S/16 gives the five maps that StyleGAN-T's
    discriminator looks at. There, half of the images are random crops of 224 pixels, rewarded ones
    too, and the others are averaged down to it; here, all are resized by a bicubic filter, for a
    reward is a function of the whole image.
    """

    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    """Of ImageNet's channels, which these networks were trained with."""

    def __init__(
        self, network: Any, resolution: int = 224, num_stages: int = 4, embedding: bool = False
    ) -> None:
        """Stand on a transformers vision model with a class token.

        Args:
            network: `transformers.ViTModel`, `Dinov2Model`, or one that is called like them.
            resolution: pixels that images are resized to, a multiple of the patch size.
            num_stages: layers to look at, spread evenly; the last one is among them.
            embedding: look at what the first layer is given as well: patches with their positions.

        Raises:
            ValueError: a resolution or a number of stages that does not fit the network.
        """
        patch, depth = int(network.config.patch_size), int(network.config.num_hidden_layers)
        if resolution < patch or resolution % patch:
            raise ValueError(
                f"resolution: got {resolution}, allowed are multiples of the patch size {patch}"
            )
        if not 1 <= num_stages <= depth:
            raise ValueError(f"num_stages: got {num_stages}, allowed are 1 .. {depth} layers")
        self.network = network.eval().requires_grad_(False)
        self.side = resolution // patch
        self.resolution = resolution
        # Some interpolate their positions for another image size by themselves, some when asked.
        asked = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if asked else {}
        self.layers = [round(depth * (i + 1) / num_stages) for i in range(num_stages)]
        if embedding:
            self.layers.insert(0, 0)
        self.stage_sizes = (int(network.config.hidden_size),) * len(self.layers)

    @classmethod
    def load(
        cls,
        path: str,
        resolution: int = 224,
        device: str | torch.device = "cpu",
        embedding: bool = False,
    ) -> "VisionTransformerTrunk":
        """Read a folder written by `save_pretrained`, or a hub id such as `facebook/dino-vits16`.

        Raises:
            ValueError: neither, or a network of another kind.
        """
        # R1 differentiates twice, which fused attention cannot; what pools is not used.
        (network,) = load_whole(
            "trunk_path", "the trunk transformer", "AutoModel", path, may_lack=("pooler.",),
            attn_implementation="eager",
        )  # fmt: skip
        if not hasattr(network.config, "patch_size"):
            raise ValueError(f"trunk_path: {path!r} is no vision transformer")
        return cls(network.to(device), resolution, embedding=embedding)

    def stages(self, images: Tensor) -> list[Tensor]:
        """See `Trunk`."""
        size = (self.resolution, self.resolution)
        resized = F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (images.new_tensor(v).view(1, 3, 1, 1) for v in (self.MEAN, self.STD))
        inputs = (resized.expand(-1, 3, -1, -1) - mean) / std
        hidden = self.network(inputs, output_hidden_states=True, **self.options).hidden_states
        maps = []
        for layer in self.layers:
            tokens = hidden[layer][:, -(self.side**2) :] + hidden[layer][:, :1]  # [B, h * w, D]
            maps.append(tokens.transpose(1, 2).unflatten(2, (self.side, self.side)))
        return maps


def load_trunk(
    name: str, bundle: Bundle, path: str | None = None, resolution: int = 112
) -> Trunk | None:
    """The frozen network that a `DiscriminatorConfig` names, where the bundle is; None: `scratch`.

    Args:
        name: `scratch`, `bundle` (the trunk that it holds), `efficientnet` (Lite0 of ImageNet: then
            it is no independent judge any more) or `transformer` (DINO, DINOv2, ...), its
            embedding included.
        bundle: whose images are told from others.
        path: of a transformer: a folder or a hub id.
        resolution: that `efficientnet` and `transformer` resize images to; StyleGAN-T's is 224.

    Raises:
        ValueError: another name, or what the name needs is missing.
        ImportError: the packages of the extra `eval` are not installed.
    """
    if name == "scratch":
        return None
    if name == "bundle":
        return ClassifierTrunk(bundle.require("trunk"))
    if name == "efficientnet":
        from nat_env.models.efficientnet import load_efficientnet_lite

        return load_efficientnet_lite("lite0", resolution, bundle.device)
    if name == "transformer":
        if path is None or (Path(path).is_absolute() and not Path(path).is_dir()):
            raise ValueError(f"trunk_path: got {path!r}, allowed are a folder or a hub id")
        return VisionTransformerTrunk.load(path, resolution, bundle.device, embedding=True)
    raise ValueError(f"trunk: got {name!r}, allowed are scratch, bundle, efficientnet, transformer")
