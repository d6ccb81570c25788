"""Images partly known: the canvas that decoding then starts from, and which tokens it keeps."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nat_env.frozen.nat import FrozenNAT


def partly_known(nat: FrozenNAT, ids: Any, known: Any, shape: tuple[int, ...]) -> Tensor | None:
    """The canvas that keeps what is known of images: their tokens there, and masks elsewhere.

    Args:
        nat: says which ids are tokens, and where the canvas is to be.
        ids: tokens of images, integers [..., N]; of no effect where they are not known. A tensor,
            an array or lists; None, with `known`, for images of which nothing is known.
        known: which of them decoding starts from, bool [..., N]. Rows without any are allowed:
            they start from the empty canvas.
        shape: that both are to have, N last.

    Returns:
        Tokens of this shape, int64, `mask_id` where they are not known; None where none are given.

    Raises:
        ValueError: one without the other, another shape or type, a known id that is no token, or
            a row that is known as a whole.

    Example:
        >>> from nat_env.bundles.loading import load_bundle
        >>> nat = load_bundle("digits", "float32").nat
        >>> upper = torch.arange(16) < 8
        >>> partly_known(nat, torch.arange(16), upper, (16,)).tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 64, 64, 64, 64, 64, 64, 64, 64]
    """
    if ids is None and known is None:
        return None
    for name, value, other in (("ids", ids, "known"), ("known", known, "ids")):
        if value is None:
            raise ValueError(f"{name}: got none beside {other}, allowed are both or neither")
    tokens, kept = _tensor("ids", ids, nat.device), _tensor("known", known, nat.device)
    integers = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    for name, value, right, kind in (
        ("ids", tokens, integers, "integers"),
        ("known", kept, kept.dtype == torch.bool, "bool"),
    ):
        if not right or tuple(value.shape) != shape:
            found = f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
            raise ValueError(f"{name}: got {found}, allowed are {kind} {shape}")
    wrong = kept & ((tokens < 0) | (tokens >= nat.codebook_size))
    if bool(wrong.any()):
        raise ValueError(
            f"ids: got {int(tokens[wrong][0])} where it is known, allowed are the tokens "
            f"0 .. {nat.codebook_size - 1}"
        )
    if bool(kept.all(dim=-1).any()):
        raise ValueError(
            "known: got an image of which every token is known, allowed is at least one to draw"
        )
    return tokens.long().masked_fill(~kept, nat.mask_id)


def known_tokens(known_pixels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Which tokens of an image are known: those of which every pixel is.

    Args:
        known_pixels: bool [H, W], multiples of the grid.
        grid: tokens along height and width.

    Returns:
        Bool [N], row by row.

    Example:
        >>> pixels = np.ones((4, 6), bool)
        >>> pixels[3, 5] = False
        >>> known_tokens(pixels, (2, 3))
        array([ True,  True,  True,  True,  True, False])
    """
    height, width = (side // cells for side, cells in zip(known_pixels.shape, grid, strict=True))
    cells = known_pixels.reshape(grid[0], height, grid[1], width)  # [h, pixels, w, pixels]
    return cells.all(axis=(1, 3)).reshape(-1)


def _tensor(name: str, value: Any, device: torch.device) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(device)
    try:
        return torch.from_numpy(np.array(value)).to(device)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: got what is no array of numbers ({error})") from None
