"""Images as they are kept, uint8, and as networks take them, float32 in [0, 1]."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nat_env.frozen.probe import rows_that_fit

PIXELS_AT_ONCE = 2**24
"""Decoded in one pass on an accelerator, at most."""


def to_float(images: Tensor) -> Tensor:
    """Images uint8, or floating and in [0, 1] already -> float32 in [0, 1].

    Example:
        >>> to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
        tensor([0.0000, 0.2000, 1.0000])
    """
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1] -> uint8, the nearest; beyond is cut off.

    Example:
        >>> to_uint8(torch.tensor([-0.1, 0.2, 1.1]))
        tensor([  0,  51, 255], dtype=torch.uint8)
    """
    return images.clamp(0, 1).mul(255).round().byte()


def images_that_fit(
    image_size: tuple[int, int], device: torch.device, run: Callable[[int], Any]
) -> int:
    """Images that a tokenizer decodes in one pass on an accelerator, see `rows_that_fit`.

    Args:
        image_size: height and width.
        device: of the pass.
        run: decodes so many images there.
    """
    return rows_that_fit(run, device, max(1, PIXELS_AT_ONCE // math.prod(image_size)))
