"""The lower half of test images drawn anew, several times each: a picture."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agents.reports.figure import (
    heading,
    label_width,
    new_figure,
    pixel_axes,
    save,
    write,
)
from agents.sharing.names import chosen_num_steps, named_policy
from eval.commands.inpainting import PartlyKnown, partly_known_image
from eval.studies.arguments import Inpainting
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import load_bundle
from nat_env.generation import generate
from nat_env.policies import DecodingPolicy
from nat_env.render import frame_grid, thumbnail_scale, to_rgb
from nat_env.storage.files import require_writable_folder
from pretrain.data.fashion import fashion_mnist


def in_turn(labels: Tensor, count: int) -> Tensor:
    """Numbers of the first images of each class, classes in turn.

    Example:
        >>> in_turn(torch.tensor([1, 1, 0, 0, 1]), 3).tolist()
        [2, 0, 3]
    """
    classes = labels.unique().tolist()
    places = [(labels == label).nonzero()[:, 0] for label in classes]
    return torch.stack([places[i % len(classes)][i // len(classes)] for i in range(count)])


def lower_half_unknown(bundle: Bundle, image: Tensor) -> PartlyKnown:
    """An image [C, H, W] in [0, 1] of which the rows above the middle are known."""
    height, width = image.shape[1:]
    upper = np.arange(height) < height // 2
    return partly_known_image(bundle, image, np.repeat(upper[:, None], width, axis=1))


def completions(
    bundle: Bundle, images: Tensor, labels: Tensor, policy: DecodingPolicy, num_steps: int,
    seed: int, count: int,
) -> np.ndarray:  # fmt: skip
    """The images, what is kept of them, and `count` completions of each.

    Args:
        bundle: the frozen models.
        images: [B, C, H, W] in [0, 1].
        labels: their classes [B].
        policy: of the decoding.
        num_steps: T.
        seed: completion k of image i is drawn with seed + k B + i.
        count: of completions.

    Returns:
        [2 + count, B, H, W, 3] uint8.
    """
    known = [lower_half_unknown(bundle, image) for image in images]
    ids, kept = (torch.stack([getattr(k, name) for k in known]) for name in ("ids", "known"))
    drawn = generate(
        bundle, policy, labels.repeat(count), num_steps, seed,
        ids=ids.repeat(count, 1), known=kept.repeat(count, 1),
    )  # fmt: skip
    given = np.stack([k.frames(bundle.tokenizer.grid) for k in known], axis=1)  # [2, B, ...]
    return np.concatenate([given, to_rgb(drawn).reshape(count, *given.shape[1:])])


def run(arguments: Inpainting) -> Path:
    """Draw the picture.

    Raises:
        ValueError: a policy that is none or of another T or bundle, images that are not there or
            are fewer than asked for, or a folder that cannot be written.
    """
    num_steps = chosen_num_steps([arguments.policy], arguments.num_steps, default=8)
    bundle = load_bundle("fashion", **arguments.models())
    name, policy = named_policy(arguments.policy, bundle, num_steps)
    require_writable_folder(arguments.out)
    data = fashion_mnist(arguments.data)
    if arguments.num_images > len(data.test_labels):
        raise ValueError(
            f"num_images: got {arguments.num_images}, allowed are at most "
            f"{len(data.test_labels)} test images"
        )
    chosen = in_turn(data.test_labels, arguments.num_images)
    labels = data.test_labels[chosen]
    images = data.test_images[chosen].float() / 255
    rows = completions(
        bundle, images, labels, policy, num_steps, arguments.seed, arguments.completions
    )
    scale = thumbnail_scale(images.shape[-1])
    sheet = np.asarray(
        frame_grid(rows.reshape(-1, *rows.shape[2:]).repeat(scale, 1).repeat(scale, 2), len(images))
    )
    names = ["test image", "kept", *(f"drawn anew, {k + 1}" for k in range(len(rows) - 2))]
    left, top = label_width(names), 84
    height, width, _ = sheet.shape
    figure = new_figure(left + width + 12, top + height + 12)
    heading(
        figure,
        "fashion: the lower half of test images drawn anew",
        f"{name}, T = {num_steps}; the first test images of each class in turn, not chosen by hand",
        left,
    )
    pixel_axes(figure, left, top, width, height).imshow(sheet, interpolation="nearest")
    for row, text in enumerate(names):
        middle = top + round((row + 0.5) * height / len(names))
        write(figure, left - 8, middle, text, size=10, ha="right", va="center")
    path = arguments.out / "inpainting.png"
    save(figure, path)
    return path


def command(arguments: Inpainting) -> None:
    """Draw the picture, and say where it is."""
    print(run(arguments))
