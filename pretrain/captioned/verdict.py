"""What a new bundle of prompts is worth: measured, said in words, and drawn."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.statistics import EmbeddingAccumulator, frechet_distance
from nat_env.generation import generate_batches
from nat_env.models.classifier import embeddings_of
from nat_env.models.pixels import to_float
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule
from pretrain.captioned.augmentation import reduced
from pretrain.data.captioned import TRAINING, UNSEEN_CONCEPT, UNSEEN_STYLE, CaptionedImages
from pretrain.tokenizer import encode_all
from pretrain.verdict import Overview, blocks_picture

NUM_STEPS = 8
"""T of the samples that a bundle is told by."""
NUM_SAMPLES = 500
"""Of each split, at most."""
COLUMNS, ROWS = 16, 4
NAMES = {
    TRAINING: "training",
    UNSEEN_STYLE: "unseen style",
    UNSEEN_CONCEPT: "unseen concept",
}
_AT_ONCE = 256


def measured(bundle: Bundle, data: CaptionedImages, size: int, seed: int) -> Overview:
    """Measure a bundle on the captions of each split.

    Args:
        bundle: with a yardstick and an aligner.
        data: what it was made of; condition i is the caption of image i.
        size: side of the bundle's images.
        seed: of the samples.
    """
    policy = ScheduledPolicy(heuristic_schedule(NUM_STEPS))
    quality: dict[str, Any] = {"samples_measured_on": f"heuristic, T = {NUM_STEPS}"}
    blocks: dict[str, Tensor] = {}
    for split, name in NAMES.items():
        numbers = (data.split == split).nonzero()[:, 0]
        real = _small(data.images[numbers], size)
        ids = encode_all(bundle.tokenizer, real, bundle.device)
        decoded = torch.cat(
            [bundle.tokenizer.decode(part.to(bundle.device)).cpu() for part in ids.split(_AT_ONCE)]
        )
        asked = numbers[:NUM_SAMPLES]
        batches = generate_batches(bundle, policy, asked, NUM_STEPS, seed)
        samples = torch.cat([images.cpu() for images, _ in batches])
        found = {"real": real, "reconstructed": decoded, "sampled": samples}
        for what, images in found.items():
            own = numbers[: len(images)]
            quality[f"{what}_found, {name}"] = _found(bundle, images, own)
            quality[f"{what}_mean_square, {name}"] = float(
                (to_float(images) - to_float(real[: len(images)])).square().mean()
            )
        if split == TRAINING:
            quality["reconstruction_floor"] = _distance(bundle, decoded)
        else:
            quality[f"real_floor, {name}"] = _distance(bundle, real)
        shown = COLUMNS * ROWS
        if split == UNSEEN_STYLE:
            blocks["real images, held out"] = to_float(real[:COLUMNS])
            blocks["their reconstructions by the tokenizer"] = decoded[:COLUMNS]
        blocks[f"samples, {name}: heuristic schedule, T = {NUM_STEPS}"] = samples[:shown]
    return Overview(quality, blocks_picture(blocks, COLUMNS))


def verdict(quality: Mapping[str, Any]) -> str:
    """What the numbers mean, a line for each split."""
    lines = []
    for name in NAMES.values():
        real, sampled = (quality[f"{what}_found, {name}"] for what in ("real", "sampled"))
        lines.append(
            f"{name}: the aligner finds the caption of {100 * sampled:.0f} % of the samples among "
            f"all, of {100 * real:.0f} % of the real images"
        )
    return "\n".join(lines)


def _small(images: Tensor, size: int) -> Tensor:
    """Images [n, C, H, W] uint8 reduced to the bundle's size."""
    parts = [reduced(to_float(part), size) for part in images.split(_AT_ONCE)]
    return (torch.cat(parts) * 255).round().to(torch.uint8)


def _found(bundle: Bundle, images: Tensor, own: Tensor) -> float:
    """Share of images whose own caption is the nearest of all to the aligner."""
    aligner = bundle.require("aligner")
    found = [aligner(to_float(part.to(bundle.device))).argmax(1) for part in images.split(_AT_ONCE)]
    return float((torch.cat(found).cpu() == own).double().mean())


def _distance(bundle: Bundle, images: Tensor) -> float:
    """To the training images, under the bundle's judge."""
    yardstick = bundle.require("yardstick")
    accumulator = EmbeddingAccumulator()
    accumulator.update(embeddings_of(yardstick.judge, images).cpu().numpy())
    return frechet_distance(accumulator.statistics(), yardstick.statistics)
