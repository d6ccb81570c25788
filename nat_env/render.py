"""Tokens, masks and images as uint8 pictures."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nat_env.models.pixels import to_uint8
from nat_env.models.protocol import Tokenizer

MASK_COLOUR = (88, 101, 132)
"""A masked token on the canvas: slate blue, which no grey image contains."""

LEAST_CONFIDENT, MOST_CONFIDENT = (68, 1, 84), (253, 231, 37)
"""Ends of the confidences' scale: those of matplotlib's viridis."""


def canvas(
    tokenizer: Tokenizer, ids: Tensor, guess: Tensor, mask_id: int, scale: int = 8
) -> np.ndarray:
    """The image so far, masked tokens covered by a flat colour.

    Args:
        tokenizer: decodes the tokens.
        ids: tokens [B, N], `mask_id` where masked.
        guess: tokens [B, N] that stand under the masks while the others are decoded.
        mask_id: the id of a masked token.
        scale: pixels of the frame per pixel of the image.

    Returns:
        Frames [B, H * scale, W * scale, 3] uint8.
    """
    masked = ids == mask_id
    frames = to_rgb(tokenizer.decode(torch.where(masked, guess, ids)))  # [B, H, W, 3]
    height, width = tokenizer.grid
    rows, columns = tokenizer.image_size[0] // height, tokenizer.image_size[1] // width
    cells = masked.view(-1, height, width).cpu().numpy()
    covered = cells.repeat(rows, axis=1).repeat(columns, axis=2)  # [B, H, W]
    frames[covered] = MASK_COLOUR
    return frames.repeat(scale, axis=1).repeat(scale, axis=2)


def confidence_map(confidence: Tensor, grid: tuple[int, int], cell: int) -> np.ndarray:
    """Which of the tokens just drawn a step was sure of.

    Args:
        confidence: [B, N], +inf at tokens known before, as `decoding.decode_step` gives.
        grid: rows and columns of tokens.
        cell: pixels of a token.

    Returns:
        Frames [B, rows * cell, columns * cell, 3] uint8: from `LEAST_CONFIDENT` to
        `MOST_CONFIDENT` by rank in the sample, white where the token was known.
    """
    drawn = confidence.isfinite()
    ranks = confidence.argsort(dim=1, stable=True).argsort(dim=1).float()  # known ones come last
    share = (ranks / (drawn.sum(dim=1, keepdim=True) - 1).clamp_min(1)).clamp_max(1)  # [B, N]
    low, high = (
        torch.tensor(c, dtype=torch.float32, device=confidence.device)
        for c in (LEAST_CONFIDENT, MOST_CONFIDENT)
    )
    colours = torch.lerp(low, high, share[:, :, None])  # [B, N, 3]
    colours = colours.masked_fill(~drawn[:, :, None], 255)
    cells = colours.round().byte().view(len(confidence), *grid, 3).cpu().numpy()
    return cells.repeat(cell, axis=1).repeat(cell, axis=2)


def to_rgb(images: Tensor) -> np.ndarray:
    """Images [B, C, H, W] in [0, 1], C = 1 or 3 -> [B, H, W, 3] uint8."""
    return to_uint8(images).cpu().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()


def thumbnail_scale(size: int) -> int:
    """Pixels per pixel by which images `size` wide are drawn about 56 wide, where many are.

    Example:
        >>> thumbnail_scale(28), thumbnail_scale(8), thumbnail_scale(256)
        (2, 7, 1)
    """
    return max(1, round(56 / size))


def image_grid(images: Tensor, columns: int, scale: int = 2, gap: int = 2) -> Image.Image:
    """Images [B, C, H, W] in [0, 1] row by row on a white sheet."""
    return frame_grid(to_rgb(images).repeat(scale, axis=1).repeat(scale, axis=2), columns, gap)


def frame_grid(frames: np.ndarray, columns: int, gap: int = 2) -> Image.Image:
    """Frames [B, H, W, 3] uint8 row by row on a white sheet."""
    count, height, width, _ = frames.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for index, frame in enumerate(frames):
        top = gap + index // columns * (height + gap)
        left = gap + index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = frame
    return Image.fromarray(sheet)
