"""The real images of a discriminator: a bundle's or a folder's, raw or through the tokenizer."""

import math
from pathlib import Path

import torch

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.caption_reals import caption_reals
from nat_env.bundles.image_folder import find_images, read_images
from nat_env.bundles.reals import (
    FolderReals,
    Reals,
    ReconstructedReals,
    TensorReals,
    check_every_condition,
)
from nat_env.frozen.protocol import Tokenizer
from nat_env.models.pixels import to_uint8

REALS = ("reconstructed", "raw")

KEPT_BYTES = 2**30
"""Images of a folder that take no more are read at once; of more, those that are drawn."""

_TRIED = 64
"""Of the latter so many are read beforehand, for what is to be said of them."""


def discriminator_reals(
    bundle: Bundle, reals: str = "reconstructed", folder: Path | None = None
) -> Reals:
    """Real images of a bundle's or of one's own.

    Args:
        bundle: holds images with their tokens, and the tokenizer.
        reals: `raw`, or `reconstructed`: through the tokenizer, as every generated image went.
            The tokenizer's own traces then tell nothing, and the discriminator has to look at
            what the policy can change.
        folder: take the images from here instead of from the bundle: see `folder_reals`, or, where
            conditions are prompts, `caption_reals`.

    Raises:
        ValueError: another name, a folder that does not fit the bundle, or no images of some
            condition, or of any.
    """
    if reals not in REALS:
        raise ValueError(f"reals: got {reals!r}, allowed are {REALS}")
    if folder is not None and bundle.conditions.are_prompts:
        raw: Reals = caption_reals(folder, bundle)
    elif folder is not None:
        raw = folder_reals(folder, bundle)
    else:
        raw = bundle.require("reals")
        names = bundle.conditions.names
        check_every_condition(raw.conditions, names, f"reals of bundle {bundle.name!r}")
    if reals == "raw":
        return raw
    if not isinstance(raw, TensorReals):
        return ReconstructedReals(raw, bundle.tokenizer, bundle.device)
    return _reconstructed(raw, bundle.tokenizer, bundle.device)


def folder_reals(folder: Path, bundle: Bundle) -> TensorReals | FolderReals:
    """Images of a folder with one sub-folder per condition, at the bundle's size.

    Args:
        folder: sub-folders carry the conditions' names, or their numbers.
        bundle: gives conditions, channels and size.

    Returns:
        Images in memory, or read as they are drawn where they take more than `KEPT_BYTES`.

    Raises:
        ValueError: a sub-folder that is no condition, conditions without one, or what `find_images`
            and `read_images` refuse.
    """
    found = find_images(folder)
    try:
        numbers = bundle.conditions.numbers(list(found.files))
    except ValueError as error:
        raise ValueError(
            f"folder: {str(folder)!r} has a sub-folder that is no class of bundle "
            f"{bundle.name!r}: {error}"
        ) from None
    by_name = dict(zip(found.files, numbers, strict=True))
    conditions = torch.tensor([by_name[path.parent.name] for path in found.paths])
    check_every_condition(conditions, bundle.conditions.names, f"folder: {str(folder)!r}")
    height, width = bundle.tokenizer.image_size
    shape = (bundle.tokenizer.channels, height, width)
    if math.prod(shape) * len(found.paths) > KEPT_BYTES:
        read_images(found.paths[:: math.ceil(len(found.paths) / _TRIED)], (height, width), shape[0])
        return FolderReals(found.paths, conditions, shape)
    return TensorReals(read_images(found.paths, (height, width), shape[0]), conditions)


def _reconstructed(raw: TensorReals, tokenizer: Tokenizer, device: torch.device) -> TensorReals:
    decoded = torch.empty_like(raw.images, dtype=torch.uint8)
    for numbers in torch.arange(len(raw.images)).split(256):
        if raw.ids is not None:
            ids = raw.ids[numbers].to(device)
        else:
            (images,) = raw.batches([numbers])
            ids = tokenizer.encode(images.to(device))
        images = tokenizer.decode(ids)
        if not bool(images.isfinite().all()):
            raise ValueError("tokenizer: gave images that are not finite of the real ones")
        decoded[numbers] = to_uint8(images).cpu()
    return TensorReals(decoded, raw.conditions, raw.ids)
