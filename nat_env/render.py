"""Tokens, masks and images as uint8 pictures."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nat_env.frozen.protocol import Tokenizer
from nat_env.models.pixels import to_uint8

MASK_COLOUR = (88, 101, 132)
"""A masked token on the canvas: slate blue, which no grey image contains."""

LEAST_SURE, MOST_SURE = (54, 63, 84), (146, 162, 202)
"""The same blue, darker and lighter: the masked tokens that a step was least and most sure of."""


def canvas(
    tokenizer: Tokenizer,
    ids: Tensor,
    guess: Tensor,
    mask_id: int,
    scale: int = 8,
    confidence: Tensor | None = None,
) -> np.ndarray:
    """The image so far, masked tokens covered by a flat colour.

    Args:
        tokenizer: decodes the tokens.
        ids: tokens [B, N], `mask_id` where masked.
        guess: tokens [B, N] that stand under the masks while the others are decoded.
        mask_id: the id of a masked token.
        scale: pixels of the frame per pixel of the image.
        confidence: [B, N] of the last step, as `decode_step` gives it: the masked tokens
            of a sample are then coloured by its rank among them, from `LEAST_SURE` to `MOST_SURE`.

    Returns:
        Frames [B, H * scale, W * scale, 3] uint8.
    """
    masked = ids == mask_id
    frames = to_rgb(tokenizer.decode(torch.where(masked, guess, ids)))  # [B, H, W, 3]
    height, width = tokenizer.grid
    rows, columns = tokenizer.image_size[0] // height, tokenizer.image_size[1] // width

    def in_pixels(cells: Tensor) -> np.ndarray:
        found = cells.view(len(ids), height, width, *cells.shape[2:]).cpu().numpy()
        return found.repeat(rows, axis=1).repeat(columns, axis=2)

    covered = in_pixels(masked)  # [B, H, W]
    if confidence is None:
        frames[covered] = MASK_COLOUR
    else:
        frames[covered] = in_pixels(_shades(confidence, masked))[covered]
    return frames.repeat(scale, axis=1).repeat(scale, axis=2)


def _shades(confidence: Tensor, masked: Tensor) -> Tensor:
    """Colours [B, N, 3] uint8 of the masked tokens by their rank; those of others mean nothing."""
    others_last = confidence.masked_fill(~masked, torch.inf)
    ranks = others_last.argsort(dim=1, stable=True).argsort(dim=1).float()
    share = (ranks / (masked.sum(dim=1, keepdim=True) - 1).clamp_min(1)).clamp_max(1)  # [B, N]
    low, high = (torch.tensor(c, device=share.device).float() for c in (LEAST_SURE, MOST_SURE))
    return torch.lerp(low, high, share[:, :, None]).round().byte()


def to_rgb(images: Tensor) -> np.ndarray:
    """Images [B, C, H, W] in [0, 1], C = 1 or 3 -> [B, H, W, 3] uint8."""
    return to_uint8(images).cpu().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()


def thumbnail_scale(size: int, width: int = 56) -> int:
    """Pixels per pixel by which images `size` wide are drawn about `width` wide.

    Example:
        >>> thumbnail_scale(28), thumbnail_scale(8), thumbnail_scale(256)
        (2, 7, 1)
    """
    return max(1, round(width / size))


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
