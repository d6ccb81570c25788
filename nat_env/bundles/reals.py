"""Real images as a discriminator sees them: the bundle's or a folder's, raw or reconstructed."""

from pathlib import Path

import torch
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.image_folder import find_images, read_images

REALS = ("reconstructed", "raw")


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
        Images [n, C, H, W] uint8 and labels [n] int64, see `read_images`.

    Raises:
        ValueError: a sub-folder that is no class, or what `find_images` and `read_images` refuse.
    """
    found = find_images(folder)
    labels_by_name = bundle.labels_by_name
    for name in found.files:
        if name.casefold() not in labels_by_name:
            raise ValueError(
                f"folder: {str(folder / name)!r} is no class of bundle {bundle.name!r}; allowed "
                f"are {', '.join(bundle.class_names)} or 0 .. {bundle.num_classes - 1}"
            )
    labels = [labels_by_name[path.parent.name.casefold()] for path in found.paths]
    _, channels, height, width = bundle.real_images.shape
    return read_images(found.paths, (height, width), channels), torch.tensor(labels)
