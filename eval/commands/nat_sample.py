"""Command nat-sample: images from a bundle and a policy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eval.commands.arguments import Sample
from eval.evaluation.policies import chosen_bundle, chosen_num_steps, named_policy
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import load_bundle
from nat_env.generation import StepRecord, generate
from nat_env.models.conditions import balanced_conditions
from nat_env.render import canvas, confidence_map, frame_grid, image_grid, to_rgb
from nat_env.storage.files import require_writable_folder, written_aside

FRAME_MILLISECONDS = 500
"""Of an animation; the last picture stands four times as long."""


def run(arguments: Sample) -> list[Path]:
    """Generate and write the images.

    Returns:
        The files written.

    Raises:
        ValueError: an unknown bundle, policy or class, a policy of another T or bundle, or a
            folder that cannot be written.
    """
    num_steps = chosen_num_steps([arguments.policy], arguments.num_steps)
    bundle = load_bundle(
        chosen_bundle([arguments.policy], arguments.bundle), arguments.dtype, arguments.device
    )
    _, policy = named_policy(arguments.policy, bundle, num_steps)
    labels = sample_labels(bundle, arguments.classes, arguments.num_samples)
    grid = arguments.out.suffix.lower() == ".png"
    require_writable_folder(arguments.out.parent if grid else arguments.out)
    columns = _columns(len(labels), len(labels.unique()))
    records: list[list[StepRecord]] = [[] for _ in range(num_steps)]
    if arguments.gif is not None:
        require_writable_folder(arguments.gif.parent)
    images = generate(
        bundle, policy, labels, num_steps, arguments.seed, arguments.batch_size,
        lambda record: records[record.timestep].append(record),
    )  # fmt: skip
    paths = []
    if arguments.gif is not None:
        ids = torch.stack([torch.cat([r.ids for r in step]) for step in records])  # [T, B, N]
        confidences = [torch.cat([r.confidence for r in step]) for step in records]
        _save_animation(bundle, ids, confidences, columns, arguments.scale, arguments.gif)
        paths.append(arguments.gif)
    if grid:
        _save(image_grid(images, columns, arguments.scale), arguments.out)
        return [arguments.out, *paths]
    digits = max(4, len(str(len(labels) - 1)))
    for index, (frame, label) in enumerate(zip(to_rgb(images), labels.tolist(), strict=True)):
        name = "".join(c if c.isalnum() else "-" for c in bundle.conditions.names[label])
        paths.append(arguments.out / f"{index:0{digits}}_{name}.png")
        _save(Image.fromarray(frame), paths[-1])
    return paths


def sample_labels(bundle: Bundle, classes: Sequence[str], count: int) -> Tensor:
    """Labels [count] int64 of classes given by name or number, class by class.

    Raises:
        ValueError: a class that the bundle does not have.
    """
    labels = bundle.conditions.numbers(classes, "classes") or list(range(len(bundle.conditions)))
    return torch.tensor(labels)[balanced_conditions(count, len(labels)).sort().values]


def _columns(count: int, num_classes: int) -> int:
    """A row for each class where that comes out even and is not too wide, else about a square."""
    if num_classes > 1 and count % num_classes == 0 and count // num_classes <= 20:
        return count // num_classes
    return max(1, round(count**0.5))


def _save_animation(
    bundle: Bundle, ids: Tensor, confidences: Sequence[Tensor], columns: int, scale: int, path: Path
) -> None:
    """Each sample before the first step and after each of ids [T, B, N]: canvas, confidences."""
    mask_id = bundle.nat.mask_id
    before = torch.full_like(ids[0], mask_id)
    known = torch.full(before.shape, torch.inf)
    grid = bundle.tokenizer.grid
    cell = bundle.tokenizer.image_size[0] // grid[0] * scale
    sheets = []
    for shown, confidence in zip([before, *ids], [known, *confidences], strict=True):
        left = canvas(bundle.tokenizer, shown, ids[-1], mask_id, scale)
        right = confidence_map(confidence, grid, cell)
        sheets.append(frame_grid(np.concatenate([left, right], axis=2), columns))
    first, *others = sheets
    durations = [FRAME_MILLISECONDS] * len(others) + [4 * FRAME_MILLISECONDS]
    with written_aside(path) as aside:
        first.save(
            aside, format="GIF", save_all=True, append_images=others, duration=durations, loop=0
        )


def _save(image: Image.Image, path: Path) -> None:
    with written_aside(path) as aside:
        image.save(aside, format="PNG")


def command(arguments: Sample) -> None:
    """Generate the images, and say where they are."""
    paths = run(arguments)
    print(
        f"{len(paths)} files in {arguments.out}" if len(paths) > 2 else "\n".join(map(str, paths))
    )
