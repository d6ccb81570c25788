"""Images as they are kept, uint8, and as networks take them, float32 in [0, 1]."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nat_env.frozen.probe import TRIED, rows_that_fit

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


class ImagesAtOnce:
    """How many images a tokenizer decodes in one pass, which bounds its memory."""

    def __init__(
        self, decode: Callable[[Tensor], Tensor], num_tokens: int, image_size: tuple[int, int]
    ) -> None:
        """Of a tokenizer.

        Args:
            decode: ids [B, N], where the tokenizer is -> images.
            num_tokens: N.
            image_size: height and width.
        """
        self._decode = decode
        self._num_tokens = num_tokens
        self._pixels = math.prod(image_size)
        self._found: dict[torch.device, int] = {}

    @torch.no_grad()
    def on(self, device: torch.device, pixels_on_a_cpu: int) -> int:
        """On a CPU so many pixels' worth, on an accelerator what fits, see `rows_that_fit`."""
        if device.type == "cpu":
            return max(1, pixels_on_a_cpu // self._pixels)
        if device not in self._found:
            ids = torch.zeros(TRIED, self._num_tokens, dtype=torch.int64, device=device)
            most = max(1, PIXELS_AT_ONCE // self._pixels)
            self._found[device] = rows_that_fit(lambda n: self._decode(ids[:n]), device, most)
        return self._found[device]
