"""What a new bundle is worth: measured on images held out, said in words, and drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.statistics import EmbeddingAccumulator, frechet_distance
from nat_env.frozen.conditions import balanced_conditions
from nat_env.generation import generate_batches
from nat_env.models.classifier import embeddings_of
from nat_env.models.pixels import to_float
from nat_env.policies import ScheduledPolicy
from nat_env.render import image_grid, thumbnail_scale
from nat_env.schedules import heuristic_schedule
from nat_env.storage.files import written_aside
from pretrain.classifier import accuracy
from pretrain.data.labelled import LabelledImages
from pretrain.tokenizer import encode_all

NUM_STEPS = 8
"""T of the samples that a bundle is told by."""
NUM_SAMPLES = 500
"""Of them; enough for a judge of 64 numbers."""
PICTURE = "overview.png"
"""In the bundle's folder: real images, their reconstructions, samples."""
_COLUMNS, _ROWS, _FEW_IMAGES = 10, 2, 5_000
_TRUSTED, _WEAK = 0.8, 0.4
"""Of the way from guessing to never wrong: a judge above, and below which it is none."""
_LITTLE, _MUCH = 0.05, 0.2
"""Of all images, whose class the judge no longer finds in their reconstructions."""


@dataclass(frozen=True)
class Overview:
    """What `measured` found."""

    quality: Mapping[str, Any]
    """By name, for the bundle's `quality`."""
    picture: Image.Image


def measured(bundle: Bundle, data: LabelledImages, seed: int) -> Overview:
    """Measure a bundle, of whose models none saw the images of `data` that are for testing.

    Args:
        bundle: with a yardstick.
        data: what it was made of.
        seed: of the samples.
    """
    yardstick = bundle.require("yardstick")
    judge, count = yardstick.judge, yardstick.statistics.mean.size
    decoded = _reconstructed(bundle, data.test_images)
    conditions = bundle.conditions.balanced(max(NUM_SAMPLES, count + 1))
    policy = ScheduledPolicy(heuristic_schedule(NUM_STEPS))
    found, accumulator, first = 0, EmbeddingAccumulator(), []
    shown = _shown_conditions(len(bundle.conditions))
    for images, labels in generate_batches(bundle, policy, conditions, NUM_STEPS, seed):
        accumulator.update(embeddings_of(judge, images).cpu().numpy())
        found += int((judge(images).argmax(1).cpu() == labels.cpu()).sum())
    for images, _ in generate_batches(bundle, policy, shown, NUM_STEPS, seed):
        first.append(images.cpu())
    quality = {
        "judge_test_accuracy": accuracy(judge, data.test_images, data.test_labels),
        "judge_accuracy_on_reconstructions": accuracy(judge, decoded, data.test_labels),
        "judge_accuracy_on_samples": found / len(conditions),
        "heuristic": frechet_distance(accumulator.statistics(), yardstick.statistics),
        "heuristic_measured_on": f"{len(conditions)} samples, T = {NUM_STEPS}",
    }
    chosen = _of_classes(data.test_labels, shown)
    blocks = {
        "real images, held out": to_float(data.test_images[chosen]),
        "their reconstructions by the tokenizer": to_float(decoded[chosen]),
        f"samples of the same classes, heuristic schedule, T = {NUM_STEPS}": torch.cat(first),
    }
    return Overview(quality, blocks_picture(blocks, _COLUMNS))


def verdict(quality: Mapping[str, Any], num_images: int, num_classes: int, judge: str) -> str:
    """What the numbers mean, in words, a line each.

    Args:
        quality: of a bundle, see `measured` and `make_bundle`.
        num_images: that it was trained on.
        num_classes: among which the judge chooses.
        judge: its name, which stands beside every distance.
    """
    real, guessing = quality["judge_test_accuracy"], 1 / num_classes
    skill = (real - guessing) / (1 - guessing)
    if skill >= _TRUSTED:
        trust = "distances under it can be trusted"
    elif skill >= _WEAK:
        trust = "weak: trust large differences alone, and look at the picture"
    else:
        trust = (
            "hardly better than guessing: distances under it mean little; it needs more images, or "
            "classes that look different"
        )
    kept = quality["judge_accuracy_on_reconstructions"]
    if real - kept <= _LITTLE:
        loss = "they keep what the judge looks at"
    elif real - kept <= _MUCH:
        loss = "they lose some of what the judge looks at"
    else:
        loss = "they lose much of it, and no policy brings it back: more codes, or longer training"
    floor, heuristic = quality["reconstruction_floor"], quality["heuristic"]
    room = (
        f"a policy may bring that down towards {floor:.2f}"
        if heuristic > floor
        else "no worse than reconstructions: there is nothing for a policy to gain"
    )
    amount = (
        f"with {num_images} training images the transformer may know them by heart: samples of few "
        "kinds, which look like them; a few thousand images more would help most"
        if num_images < _FEW_IMAGES
        else f"{num_images} training images are enough for samples of many kinds"
    )
    return "\n".join(
        (
            f"judge: names the class of {_percent(real)} of the images held out (guessing: "
            f"{_percent(guessing)}): {trust}",
            f"tokenizer: of their reconstructions {_percent(kept)}: {loss}; FD ({judge}) of "
            f"reconstructions {floor:.2f}, of the images themselves {quality['real_floor']:.2f}",
            f"transformer: of heuristic samples {_percent(quality['judge_accuracy_on_samples'])}; "
            f"FD ({judge}, {quality['heuristic_measured_on']}) {heuristic:.2f}: {room}",
            f"data: {amount}",
        )
    )


def save_picture(picture: Image.Image, out: Path) -> Path:
    """Write it beside the bundle's files."""
    path = out / PICTURE
    with written_aside(path) as aside:
        picture.save(aside, format="PNG")
    return path


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _reconstructed(bundle: Bundle, images: Tensor) -> Tensor:
    """Images [n, C, H, W] uint8 through the tokenizer, where they are."""
    ids = encode_all(bundle.tokenizer, images, bundle.device)
    decoded = [
        bundle.tokenizer.decode(part.to(bundle.device)).mul(255).round().byte().to(images.device)
        for part in ids.split(256)
    ]
    return torch.cat(decoded)


def _shown_conditions(num_classes: int) -> Tensor:
    """A condition for each image of a block, [rows * columns], of all classes if they fit."""
    count = _COLUMNS * _ROWS
    if num_classes > count:
        return torch.linspace(0, num_classes - 1, count).round().long()
    return balanced_conditions(count, num_classes).sort().values


def _of_classes(labels: Tensor, wanted: Tensor) -> Tensor:
    """Numbers of images of the wanted classes, the same one again where a class has few."""
    seen: dict[int, int] = {}
    chosen = []
    for number in wanted.tolist():
        there = (labels == number).nonzero().flatten()
        if not len(there):  # none of this class is held out
            there = torch.arange(len(labels))
        chosen.append(int(there[seen.get(number, 0) % len(there)]))
        seen[number] = seen.get(number, 0) + 1
    return torch.tensor(chosen)


def blocks_picture(
    blocks: Mapping[str, Tensor], columns: int, line: int = 26, margin: int = 8
) -> Image.Image:
    """Blocks of images [n, C, H, W] under each other, each with its heading."""
    font = ImageFont.load_default(size=15)
    grids = {}
    for heading, images in blocks.items():
        grids[heading] = image_grid(images, columns, thumbnail_scale(images.shape[-1]))
    widest = max(int(font.getlength(heading)) for heading in blocks)
    width = 2 * margin + max(widest, *(grid.width for grid in grids.values()))
    height = margin + sum(line + grid.height + margin for grid in grids.values())
    sheet = Image.new("RGB", (width, height), "white")
    draw, top = ImageDraw.Draw(sheet), margin
    for heading, grid in grids.items():
        draw.text((margin, top), heading, fill="black", font=font)
        sheet.paste(grid, (margin, top + line))
        top += line + grid.height + margin
    return sheet
