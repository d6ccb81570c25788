"""An image and a mask from files: what nat-sample --inpaint draws anew, and what it keeps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.frozen.canvas import known_tokens
from nat_env.images.image_file import Picture, read_picture
from nat_env.render import MASK_COLOUR, to_rgb

_WHITE = 128
"""Grey levels from here on are the mask's white."""


@dataclass(frozen=True, eq=False)
class PartlyKnown:
    """An image of which some tokens are known."""

    image: Tensor
    """[C, H, W] float32 in [0, 1], of the bundle's size."""
    known_pixels: np.ndarray
    """Bool [H, W]: those that the mask leaves as they are."""
    ids: Tensor
    """Tokens of the whole image [N]."""
    known: Tensor
    """Bool [N]: tokens of which every pixel is known."""

    def tokens(self, count: int) -> dict[str, Tensor]:
        """For so many samples of it: `ids` and `known` of `generate`, [count, N] each."""
        return {"ids": self.ids.expand(count, -1), "known": self.known.expand(count, -1)}

    def pasted(self, images: Tensor) -> Tensor:
        """Samples [B, C, H, W] with the image's own pixels where they are known."""
        known = torch.from_numpy(self.known_pixels).to(images.device)
        return torch.where(known, self.image.to(images.device), images)

    def frames(self, grid: tuple[int, int]) -> np.ndarray:
        """The image, and the image with its unknown tokens covered [2, H, W, 3] uint8.

        Args:
            grid: tokens along height and width.
        """
        frames = to_rgb(self.image.expand(2, -1, -1, -1))
        height, width = (n // cells for n, cells in zip(self.known_pixels.shape, grid, strict=True))
        unknown = ~self.known.cpu().numpy().reshape(grid)
        frames[1, unknown.repeat(height, axis=0).repeat(width, axis=1)] = MASK_COLOUR
        return frames


def partly_known_image(bundle: Bundle, image: Tensor, known_pixels: np.ndarray) -> PartlyKnown:
    """An image [C, H, W] in [0, 1] of the bundle's size, of which these pixels [H, W] are known."""
    tokens = bundle.tokenizer.encode(image[None].to(bundle.device))[0]
    known = known_tokens(known_pixels, bundle.tokenizer.grid)
    return PartlyKnown(image, known_pixels, tokens, torch.from_numpy(known).to(tokens.device))


def read_partly_known(bundle: Bundle, image: Path, mask: Path) -> PartlyKnown:
    """An image of any size, and a mask of the same shape that is white where it is drawn anew.

    Both are brought to the bundle's size, what does not fit cropped from both sides alike. A pixel
    is known where none of the mask's that fall on it is white.

    Raises:
        ValueError: a file that cannot be read, a mask of another shape, or one without white.
    """
    picture, covered = _read(image), _read(mask)
    (width, height), (mask_width, mask_height) = picture.image.size, covered.image.size
    if abs(width * mask_height - height * mask_width) > max(width, height, mask_width, mask_height):
        raise ValueError(
            f"inpaint: {mask} has {mask_width} x {mask_height} pixels, allowed is the shape of "
            f"{image}, {width} x {height}, at any scale"
        )
    size, channels = bundle.tokenizer.image_size, bundle.tokenizer.channels
    pixels = torch.from_numpy(picture.fitted(size, channels)).float() / 255
    # In floating point: of bytes a mean below half of one would be none.
    white = Image.fromarray((np.asarray(covered.image.convert("L")) >= _WHITE).astype(np.float32))
    drawn = ImageOps.fit(white, (size[1], size[0]), Image.Resampling.BOX)
    known_pixels = np.asarray(drawn) == 0
    if known_pixels.all():
        raise ValueError(f"inpaint: {mask} has no white, allowed are masks with something to draw")
    return partly_known_image(bundle, pixels, known_pixels)


def _read(path: Path) -> Picture:
    try:
        return read_picture(path)
    except Exception as error:  # whatever a decoder raises on bytes that it did not expect
        raise ValueError(f"inpaint: {path} cannot be read as an image ({error})") from error
