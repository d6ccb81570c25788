"""The real images of a discriminator: a bundle's or a folder's, raw or through the tokenizer."""

import re
from pathlib import Path

import torch
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.caption_reals import caption_reals
from nat_env.bundles.reals import (
    FileReals,
    Reals,
    ReconstructedReals,
    TensorReals,
    check_every_condition,
)
from nat_env.frozen.protocol import Tokenizer
from nat_env.images.image_file import Crop, check_crop
from nat_env.images.image_folder import ImageFolder, find_images, read_images
from nat_env.models.pixels import to_uint8

REALS = ("reconstructed", "raw")

KEPT_BYTES = 2**30
"""Images of a folder that take no more are read at once; of more, those that are drawn."""

_WORDNET = re.compile(r"n\d{8}")
"""ImageNet's sub-folders: numbers of WordNet."""


def discriminator_reals(
    bundle: Bundle,
    reals: str = "reconstructed",
    folder: Path | None = None,
    crop: Crop = "lanczos",
) -> Reals:
    """Real images of a bundle's or of one's own.

    Args:
        bundle: holds images with their tokens, and the tokenizer.
        reals: `raw`, or `reconstructed`: through the tokenizer, as every generated image went.
            The tokenizer's own traces then tell nothing, and the discriminator has to look at
            what the policy can change.
        folder: take the images from here instead of from the bundle: see `folder_reals`, or, where
            conditions are prompts, `caption_reals`.
        crop: how a folder's images are brought to the bundle's size, see `Picture.fitted`.

    Raises:
        ValueError: another name, a folder that does not fit the bundle, or no images of some
            class, or of any.
    """
    if reals not in REALS:
        raise ValueError(f"reals: got {reals!r}, allowed are {REALS}")
    if folder is not None:
        check_crop(crop, bundle.tokenizer.image_size)
        found = caption_reals if bundle.conditions.are_prompts else folder_reals
        raw: Reals = found(folder, bundle, crop)
    else:
        raw = bundle.require("reals")
        if bundle.conditions.pooled is None:  # else a condition is told by it, one like another
            names = bundle.conditions.names
            check_every_condition(raw.conditions, names, f"reals of bundle {bundle.name!r}")
    if reals == "raw":
        return raw
    if not isinstance(raw, TensorReals):
        return ReconstructedReals(raw, bundle.tokenizer, bundle.device)
    return _reconstructed(raw, bundle.tokenizer, bundle.device)


def folder_reals(folder: Path, bundle: Bundle, crop: Crop = "lanczos") -> TensorReals | FileReals:
    """Images of a folder with one sub-folder per condition, at the bundle's size.

    Args:
        folder: see `folder_conditions`.
        bundle: gives conditions, channels and size.
        crop: see `Picture.fitted`.

    Returns:
        Images in memory, or read as they are drawn where they take more than `KEPT_BYTES`.

    Raises:
        ValueError: a sub-folder that is no condition, conditions without one, or what `find_images`
            and `read_images` refuse.
    """
    found = find_images(folder)
    conditions = folder_conditions(found, bundle)
    check_every_condition(conditions, bundle.conditions.names, f"folder: {str(folder)!r}")
    channels, (height, width) = bundle.tokenizer.channels, bundle.tokenizer.image_size
    if channels * height * width * len(found.paths) > KEPT_BYTES:
        reals = FileReals(found.paths, conditions, (channels, height, width), crop)
        reals.check()
        return reals
    return TensorReals(read_images(found.paths, (height, width), channels, crop), conditions)


def folder_conditions(found: ImageFolder, bundle: Bundle) -> Tensor:
    """The condition of each image of a folder [n] int64.

    Sub-folders carry the conditions' names, or their numbers. Where they are ImageNet's (n01440764
    and so on), of which the bundle's conditions carry no names, and as many as these, the first
    stands for condition 0 and so on: so do all published models number ImageNet's classes.

    Raises:
        ValueError: a sub-folder that is no condition.
    """
    names = list(found.counts)
    wordnet = all(map(_WORDNET.fullmatch, names)) and len(names) == len(bundle.conditions)
    if wordnet and set(names).isdisjoint(bundle.conditions.names):
        numbers = list(range(len(names)))
    else:
        try:
            numbers = bundle.conditions.numbers(names)
        except ValueError as error:
            raise ValueError(
                f"folder: {str(found.path)!r} has a sub-folder that is no class of bundle "
                f"{bundle.name!r}: {error}"
            ) from None
    return torch.tensor(numbers)[torch.from_numpy(found.classes)]


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
