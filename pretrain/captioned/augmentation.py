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
        images: [n, 3, H, W] in [0, 1].
        flips: those that may be mirrored [n], bool.
        generator: of the random numbers, on the CPU.

    Returns:
        [n, 3, H, W] in [0, 1], where `images` are.
    """
    count = len(images)
    drawn = torch.rand(count, 5, generator=generator)
    turn = (2 * drawn[:, 0] - 1) * MOST_TURN
    scale = SCALES[0] + (SCALES[1] - SCALES[0]) * drawn[:, 1]
    mirror = torch.where(flips.cpu() & (drawn[:, 4] < 0.5), -1.0, 1.0)
    shift = (2 * drawn[:, 2:4] - 1) * 2 * MOST_SHIFT  # the grid goes from -1 to 1
    cosine, sine = turn.cos() / scale, turn.sin() / scale
    # From places of the result to places of the image: [n, 2, 3].
    rows = [
        torch.stack([mirror * cosine, -mirror * sine, shift[:, 0]], dim=1),
        torch.stack([sine, cosine, shift[:, 1]], dim=1),
    ]
    matrix = torch.stack(rows, dim=1).to(images.device)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    # What comes in from outside is 0, and white where black and white change places.
    return 1 - F.grid_sample(1 - images, grid, align_corners=False)


def reduced(images: Tensor, size: int) -> Tensor:
    """Images [n, C, H, W] in [0, 1] -> [n, C, size, size]: means over whole squares of pixels.

    Raises:
        ValueError: sides that are no multiples of `size`, or not square.
    """
    height, width = images.shape[2:]
    if height != width or height % size:
        raise ValueError(f"images: got {height} x {width} pixels, allowed are multiples of {size}")
    return F.avg_pool2d(images, height // size)
