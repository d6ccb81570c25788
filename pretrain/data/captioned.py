"""Images with captions: what they show, in which style, and which of them are held out."""

from dataclasses import dataclass

import torch
from torch import Tensor

TRAINING, UNSEEN_STYLE, UNSEEN_CONCEPT = 0, 1, 2
"""What `split` says of an image: it is trained on; its concept is, in another style; it is not."""


@dataclass(frozen=True)
class CaptionedImages:
    """Images, each with a caption "DESCRIPTION, STYLE style"."""

    name: str
    images: Tensor
    """[n, 3, H, W] uint8."""
    captions: tuple[str, ...]
    """Of each image, "a red apple, noto style"."""
    descriptions: tuple[tuple[str, ...], ...]
    """Wordings of what each image shows, without style; the first is the caption's own."""
    styles: tuple[str, ...]
    style: Tensor
    """[n] int64, an index of `styles`."""
    categories: tuple[str, ...]
    category: Tensor
    """[n] int64, an index of `categories`."""
    concept: Tensor
    """[n] int64: images of one thing in several styles have the same number."""
    flips: Tensor
    """[n] bool: the mirror image has the same caption."""
    split: Tensor
    """[n] int8: 0 training, 1 unseen style, 2 unseen concept."""

    def __post_init__(self) -> None:
        """Check that everything is said of every image.

        Raises:
            ValueError: wrong rank, dtype, lengths that differ, a number out of range, or a caption
                that is not of its description and style.
        """
        if self.images.ndim != 4 or self.images.dtype != torch.uint8 or self.images.shape[1] != 3:
            raise ValueError(
                f"images: got {self.images.dtype} {tuple(self.images.shape)}, "
                "allowed is uint8 [n, 3, H, W]"
            )
        count = len(self.images)
        if not count:
            raise ValueError("images: got none, allowed is one or more")
        for field in ("captions", "descriptions"):
            if len(getattr(self, field)) != count:
                raise ValueError(f"{field}: got {len(getattr(self, field))}, allowed is {count}")
        for field, dtype, limit in (
            ("style", torch.int64, len(self.styles)),
            ("category", torch.int64, len(self.categories)),
            ("concept", torch.int64, count),
            ("flips", torch.bool, 2),
            ("split", torch.int8, 3),
        ):
            values: Tensor = getattr(self, field)
            if values.shape != (count,) or values.dtype != dtype:
                raise ValueError(
                    f"{field}: got {values.dtype} {tuple(values.shape)}, allowed is {dtype} "
                    f"[{count}]"
                )
            if values.min() < 0 or values.max() >= limit:
                raise ValueError(
                    f"{field}: got {int(values.min())} .. {int(values.max())}, "
                    f"allowed are 0 .. {limit - 1}"
                )
        for caption, wordings, style in zip(
            self.captions, self.descriptions, self.style.tolist(), strict=True
        ):
            if not wordings or caption != captioned(wordings[0], self.styles[style]):
                raise ValueError(
                    f"captions: got {caption!r} of {wordings!r} in style {self.styles[style]!r}, "
                    "allowed is 'DESCRIPTION, STYLE style' with the first of the descriptions"
                )


def captioned(description: str, style: str) -> str:
    """The caption of a description in a style.

    Example:
        >>> captioned("a red apple", "noto")
        'a red apple, noto style'
    """
    return f"{description}, {style} style"
