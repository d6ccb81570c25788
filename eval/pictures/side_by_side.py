"""Policies side by side on the same random numbers: a column for each prompt or class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
import torch
from PIL import Image

from agents.reports.figure import label_width, new_figure, pixel_axes, save, write
from nat_env.bundles.bundle import Bundle
from nat_env.generation import generate
from nat_env.policies import DecodingPolicy
from nat_env.render import to_rgb

GAP, LINE, NOTE = 10, 16, 30
"""Pixels: between images, of a line of a caption, under the last row."""

MOST_COLUMNS = 8
"""Of more samples there are several bands, one under the other."""

CAPTION_LINES, NAME_LETTERS = 4, 18
"""At most: lines over a column, and letters of a policy's name in a line."""

LETTER = 7.5
"""Pixels of a letter of a caption, about."""


def save_side_by_side(
    path: Path,
    bundle: Bundle,
    policies: Mapping[str, DecodingPolicy],
    conditions: Sequence[int],
    num_steps: int,
    seed: int = 0,
    scale: int = 4,
    batch_size: int | None = None,
) -> None:
    """A row for each policy, a column for each sample, its prompt or class above.

    Args:
        path: a PNG.
        bundle: the frozen models.
        policies: by name, from top to bottom.
        conditions: of the samples, from left to right; of equal neighbours the first is captioned.
        num_steps: T.
        seed: sample i of every policy is drawn with the random numbers of seed + i.
        scale: pixels for each pixel of an image, which is enlarged smoothly.
        batch_size: samples decoded at once; by default as `generate` has it.
    """
    labels = torch.tensor(list(conditions))
    rows = [
        enlarged(to_rgb(generate(bundle, policy, labels, num_steps, seed, batch_size)), scale)
        for policy in policies.values()
    ]
    count, height, width, _ = rows[0].shape
    captions = [
        caption_lines(bundle.conditions.names[label], width) if new else []
        for label, new in zip(labels.tolist(), starts(labels.tolist()), strict=True)
    ]
    names = [wrap(name, NAME_LETTERS) or [""] for name in policies]
    left = label_width(line for lines in names for line in lines)
    bands = [range(count)[i : i + MOST_COLUMNS] for i in range(0, count, MOST_COLUMNS)]
    above = [GAP + LINE * max(len(captions[i]) for i in band) + 6 for band in bands]
    total = sum(above) + len(bands) * len(rows) * (height + GAP) + NOTE
    figure = new_figure(left + len(bands[0]) * (width + GAP), total)
    top = 0
    for band, head in zip(bands, above, strict=True):
        top += head
        for column, index in enumerate(band):
            x = left + column * (width + GAP)
            write(figure, x, top - 6, "\n".join(captions[index]), size=10, va="bottom")
            for row, frames in enumerate(rows):
                axes = pixel_axes(figure, x, top + row * (height + GAP), width, height)
                axes.imshow(frames[index], interpolation="nearest")
        for row, lines in enumerate(names):
            y = top + row * (height + GAP) + height / 2
            text = "\n".join(lines)
            write(figure, left - 12, y, text, size=10, ha="right", va="center")
        top += len(rows) * (height + GAP)
    note = f"T = {num_steps} decoding steps; the same random numbers in a column"
    write(figure, left, top + 12, note, size=9, color="#444444")
    save(figure, path)


def enlarged(frames: np.ndarray, scale: int) -> np.ndarray:
    """Frames [B, H, W, 3] uint8 -> [B, H * scale, W * scale, 3], smoothly."""
    _, height, width, _ = frames.shape
    size = (width * scale, height * scale)
    lanczos = Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(f).resize(size, lanczos)) for f in frames])


def starts(labels: Sequence[int]) -> list[bool]:
    """Whether each one differs from the one before it.

    Example:
        >>> starts([3, 3, 1])
        [True, False, True]
    """
    return [not i or label != labels[i - 1] for i, label in enumerate(labels)]


def caption_lines(text: str, width: int) -> list[str]:
    """A text in lines of so many pixels, about; what does not fit ends in dots.

    Example:
        >>> caption_lines("a red house beside a lake, noto style", 112)
        ['a red house', 'beside a lake,', 'noto style']
        >>> len(caption_lines("very " * 40, 112))
        4
    """
    letters = max(8, int(width / LETTER))
    return wrap(text, letters, max_lines=CAPTION_LINES, placeholder=" ...")
