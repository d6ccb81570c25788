"""What a new bundle of prompts is worth: measured, said in words, and drawn."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.statistics import GaussianStatistics, frechet_distance
from nat_env.frozen.batches import in_batches
from nat_env.generation import generate_batches
from nat_env.models.classifier import embeddings_of
from nat_env.models.pixels import to_float, to_uint8
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule
from pretrain.captioned.augmentation import reduced
from pretrain.data.captioned import TRAINING, UNSEEN_CONCEPT, UNSEEN_STYLE, CaptionedImages
from pretrain.tokenizer import encode_all
from pretrain.verdict import NUM_SAMPLES, NUM_STEPS, Overview, blocks_picture

NAMES = {
    TRAINING: "training",
    UNSEEN_STYLE: "unseen style",
    UNSEEN_CONCEPT: "unseen concept",
}
_COLUMNS, _ROWS = 16, 4


def measured(bundle: Bundle, data: CaptionedImages, seed: int) -> Overview:
    """Measure a bundle on the captions of each split that has two images or more.

    `NUM_SAMPLES` of a split are drawn, at most: those of its first captions.

    Args:
        bundle: with a yardstick and an aligner.
        data: what it was made of; condition i is the caption of image i.
        seed: of the samples.
    """
    policy = ScheduledPolicy(heuristic_schedule(NUM_STEPS))
    quality: dict[str, Any] = {"samples_measured_on": f"heuristic, T = {NUM_STEPS}"}
    blocks: dict[str, Tensor] = {}
    for split, name in NAMES.items():
        numbers = (data.split == split).nonzero()[:, 0]
        if len(numbers) < 2:  # there is no distance of one image
            continue
        real = _of_size(data.images[numbers], bundle.tokenizer.image_size[0])
        ids = encode_all(bundle.tokenizer, real, bundle.device)
        decoded = in_batches(bundle.tokenizer.decode, ids, device=bundle.device)
        batches = generate_batches(bundle, policy, numbers[:NUM_SAMPLES], NUM_STEPS, seed)
        samples = torch.cat([images.cpu() for images, _ in batches])
        found = {"real": to_float(real), "reconstructed": decoded, "sampled": samples}
        for what, images in found.items():
            quality[f"{what}_found, {name}"] = _found(bundle, images, numbers[: len(images)])
            error = (images - found["real"][: len(images)]).square().mean()
            quality[f"{what}_mean_square, {name}"] = float(error)
        if split == TRAINING:
            quality["reconstruction_floor"] = _distance(bundle, decoded)
        else:
            quality[f"real_floor, {name}"] = _distance(bundle, real)
        if split == UNSEEN_STYLE:
            blocks["real images, held out"] = found["real"][:_COLUMNS]
            blocks["their reconstructions by the tokenizer"] = decoded[:_COLUMNS]
        heading = f"samples, {name}: heuristic schedule, T = {NUM_STEPS}"
        blocks[heading] = samples[: _COLUMNS * _ROWS]
    return Overview(quality, blocks_picture(blocks, _COLUMNS))


def verdict(quality: Mapping[str, Any]) -> str:
    """What the numbers mean, a line for each split.

    Example:
        >>> verdict({"real_found, training": 0.9, "sampled_found, training": 0.6})[:60]
        'training: the aligner finds the caption of 60 % of the sampl'
    """
    lines = []
    for name in NAMES.values():
        if f"real_found, {name}" not in quality:
            continue
        real, sampled = (quality[f"{what}_found, {name}"] for what in ("real", "sampled"))
        lines.append(
            f"{name}: the aligner finds the caption of {100 * sampled:.0f} % of the samples among "
            f"all, of {100 * real:.0f} % of the real images"
        )
    return "\n".join(lines)


def _of_size(images: Tensor, size: int) -> Tensor:
    """Images [n, C, H, W] uint8 reduced to the bundle's size."""
    return in_batches(lambda batch: to_uint8(reduced(to_float(batch), size)), images)


def _found(bundle: Bundle, images: Tensor, own: Tensor) -> float:
    """Share of images whose own caption is the nearest of all to the aligner."""
    aligner = bundle.require("aligner")
    nearest = in_batches(lambda batch: aligner(batch).argmax(1), images, device=bundle.device)
    return float((nearest == own).double().mean())


def _distance(bundle: Bundle, images: Tensor) -> float:
    """To the training images, under the bundle's judge."""
    yardstick = bundle.require("yardstick")
    embeddings = embeddings_of(yardstick.judge, images).numpy()
    return frechet_distance(GaussianStatistics.from_embeddings(embeddings), yardstick.statistics)
