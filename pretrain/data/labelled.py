"""Images with labels, for training and for testing."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelledImages:
    """Images [n, C, H, W] uint8 and labels [n] int64, for training and for testing."""

    name: str
    class_names: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def __post_init__(self) -> None:
        """Check that images and labels belong together.

        Raises:
            ValueError: wrong rank, dtype, lengths that differ, or a label out of range.
        """
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.ndim != 4 or images.dtype != torch.uint8 or not len(images):
                raise ValueError(
                    f"{part}_images: got {images.dtype} {tuple(images.shape)}, "
                    "allowed is uint8 [n, C, H, W] with n >= 1"
                )
            if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
                raise ValueError(
                    f"{part}_labels: got {labels.dtype} {tuple(labels.shape)}, "
                    f"allowed is int64 [{len(images)}]"
                )
            if labels.min() < 0 or labels.max() >= len(self.class_names):
                raise ValueError(
                    f"{part}_labels: got {int(labels.min())} .. {int(labels.max())}, "
                    f"allowed are 0 .. {len(self.class_names) - 1}"
                )
