"""Real images as a discriminator sees them: the bundle's or a folder's, raw or reconstructed."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from nat_env.bundle import Bundle

REALS = ("reconstructed", "raw")
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


def discriminator_reals(
    bundle: Bundle, reals: str = "reconstructed", folder: Path | None = None
) -> tuple[Tensor, Tensor]:
    """Real images [n, C, H, W] uint8 and their labels [n].

    Args:
        bundle: holds images with their tokens, and the tokenizer.
        reals: `raw`, or `reconstructed`: through the tokenizer, as every generated image went.
            The tokenizer's own traces then tell nothing, and the discriminator has to look at
            what the policy can change.
        folder: take the images from here, see `folder_images`, instead of from the bundle.

    Raises:
        ValueError: another name, or a folder that does not fit the bundle.
    """
    if reals not in REALS:
        raise ValueError(f"reals: got {reals!r}, allowed are {REALS}")
    if folder is None:
        images, labels, ids = bundle.real_images, bundle.real_labels, bundle.real_ids
    else:
        images, labels = folder_images(folder, bundle)
        ids = None
    if reals == "raw":
        return images, labels
    if ids is None:
        pieces = (i.to(bundle.device).float() / 255 for i in images.split(256))
        ids = torch.cat([bundle.tokenizer.encode(piece) for piece in pieces])
    decoded = [bundle.tokenizer.decode(i.to(bundle.device)).cpu() for i in ids.split(256)]
    return torch.cat(decoded).mul(255).round().byte(), labels


def folder_images(folder: Path, bundle: Bundle) -> tuple[Tensor, Tensor]:
    """Images of a folder with one sub-folder per class, resized to the bundle's size.

    Args:
        folder: sub-folders carry the class names, or the labels as numbers.
        bundle: gives classes, channels and size.

    Returns:
        Images [n, C, H, W] uint8 and labels [n] int64.

    Raises:
        ValueError: no such folder, a sub-folder that is no class, a file that is no image, or no
            images at all.
    """
    if not folder.is_dir():
        raise ValueError(f"folder: {str(folder)!r} is not a folder")
    _, channels, height, width = bundle.real_images.shape
    images, labels = [], []
    for sub in sorted(p for p in folder.iterdir() if p.is_dir()):
        if sub.name.casefold() not in bundle.labels_by_name:
            raise ValueError(
                f"folder: {str(sub)!r} is no class of bundle {bundle.name!r}; allowed are "
                f"{', '.join(bundle.class_names)} or 0 .. {bundle.num_classes - 1}"
            )
        for path in sorted(p for p in sub.iterdir() if p.suffix.lower() in _SUFFIXES):
            try:
                with Image.open(path) as image:
                    picture = image.convert("L" if channels == 1 else "RGB")
                    pixels = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
            except (UnidentifiedImageError, OSError) as error:
                raise ValueError(f"folder: {str(path)!r} is no image ({error})") from error
            images.append(torch.from_numpy(pixels.copy()).view(height, width, channels))
            labels.append(bundle.labels_by_name[sub.name.casefold()])
    if not images:
        raise ValueError(
            f"folder: {str(folder)!r} holds no images in sub-folders named by class "
            f"({', '.join(sorted(_SUFFIXES))})"
        )
    stacked = torch.stack(images).permute(0, 3, 1, 2).contiguous()  # [n, C, H, W]
    return stacked, torch.tensor(labels)
