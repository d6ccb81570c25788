"""Pictures moved a little: what they show, and what they are called, stays."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_SHIFT = 0.08
"""Of a side."""
SCALES = (0.8, 1.1)
MOST_TURN = math.radians(10)


def moved(images: Tensor, flips: Tensor, generator: torch.Generator) -> Tensor:
    """Each shifted, scaled and turned at random, on white; mirrored, half of those that may be.

    Args:
        images: [n, C, H, W] in [0, 1].
        flips: those that may be mirrored [n], bool.
        generator: of the random numbers, on the CPU.

    Returns:
        [n, C, H, W] in [0, 1], where `images` are.
    """
    drawn = torch.rand(len(images), 5, generator=generator)
    return transformed(
        images,
        turn=(2 * drawn[:, 0] - 1) * MOST_TURN,
        scale=SCALES[0] + (SCALES[1] - SCALES[0]) * drawn[:, 1],
        shift=(2 * drawn[:, 2:4] - 1) * MOST_SHIFT,
        mirrored=flips.cpu() & (drawn[:, 4] < 0.5),
    )


def transformed(
    images: Tensor, turn: Tensor, scale: Tensor, shift: Tensor, mirrored: Tensor
) -> Tensor:
    """Pictures moved as is said, between pixels linearly; what comes in from outside is white.

    Args:
        images: [n, C, H, W] in [0, 1].
        turn: radians [n], to the left on the screen.
        scale: [n], above 1 larger.
        shift: [n, 2] of a side, to the left and up; before all else.
        mirrored: [n], bool; left for right.

    Returns:
        [n, C, H, W] in [0, 1], where `images` are.
    """
    sign = torch.where(mirrored, -1.0, 1.0)
    cosine, sine = turn.cos() / scale, turn.sin() / scale
    # From places of the result to places of the image, where a side goes from -1 to 1.
    rows = [
        torch.stack([sign * cosine, -sign * sine, 2 * shift[:, 0]], dim=1),
        torch.stack([sine, cosine, 2 * shift[:, 1]], dim=1),
    ]
    matrix = torch.stack(rows, dim=1).to(images.device)  # [n, 2, 3]
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    # What comes in from outside is 0, and white where black and white change places.
    found = 1 - F.grid_sample(1 - images, grid, align_corners=False)
    return found.clamp(0, 1)  # weights of pixels sum to 1 but for rounding


def reduced(images: Tensor, size: int) -> Tensor:
    """Images [n, C, H, W] in [0, 1] -> [n, C, size, size]: means over whole squares of pixels.

    Raises:
        ValueError: sides that are no multiples of `size`, or not square.
    """
    height, width = images.shape[2:]
    if height != width or height % size:
        raise ValueError(f"images: got {height} x {width} pixels, allowed are multiples of {size}")
    return F.avg_pool2d(images, height // size)
