"""Samples on a sheet under their classes' names, and how they are decoded, step by step."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.render import canvas

SIDE = 10
"""An animation shows at most so many rows and columns of samples."""

FONT_SIZE, LINE, GAP = 12, 16, 8
"""Pixels: of the letters, of a line of text, between samples."""

NAME_LINES = 3
"""Over a sample, at most."""


def columns_of(count: int, num_classes: int, most: int) -> int:
    """A row for each class where that comes out even and on at most `most` x `most`, else a square.

    One sample of each class is no row.

    Example:
        >>> columns_of(30, 10, most=10), columns_of(31, 10, most=10), columns_of(100, 50, most=10)
        (3, 6, 10)
        >>> columns_of(6, 6, most=10)
        2
    """
    each, left = divmod(count, num_classes)
    if num_classes > 1 and each > 1 and not left and max(each, num_classes) <= most:
        return each
    return max(1, round(count**0.5))


def named_sheet(
    frames: np.ndarray, names: Sequence[str], columns: int, title: str = ""
) -> Image.Image:
    """Frames [B, H, W, 3] uint8 row by row on a white sheet, each under its name."""
    count, height, width, _ = frames.shape
    font = ImageFont.load_default(FONT_SIZE)
    top = GAP + (LINE if title else 0)
    texts = {name: _lines(name, width, font) for name in set(names)}
    above = LINE * max(len(lines) for lines in texts.values())
    cell_width, cell_height = width + GAP, above + height + GAP
    rows = -(-count // columns)
    sheet_width = max(columns * cell_width, GAP + round(font.getlength(title))) + GAP
    sheet = Image.new("RGB", (sheet_width, top + rows * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP // 2), title, "black", font)
    for index, (frame, name) in enumerate(zip(frames, names, strict=True)):
        left, upper = GAP + index % columns * cell_width, top + index // columns * cell_height
        for row, line in enumerate(texts[name]):
            draw.text((left, upper + row * LINE), line, "black", font)
        sheet.paste(Image.fromarray(frame), (left, upper + above))
    return sheet


def decoding_sheets(
    bundle: Bundle,
    labels: Tensor,
    ids: Tensor,
    confidences: Tensor | None,
    scale: int,
    begun: Tensor | None = None,
) -> list[Image.Image]:
    """The samples before the first step and after each one, masked tokens covered.

    Of more than `SIDE` x `SIDE` samples as many are shown, evenly from the first to the last.

    Args:
        bundle: what decoded them.
        labels: their classes [B].
        ids: tokens after each step [T, B, N].
        confidences: of each step [T, B, N], see `nat_env.render.canvas`; None: masked tokens are
            of one colour.
        scale: pixels for each pixel of an image.
        begun: tokens before the first step [B, N]; by default all are masked.
    """
    num_steps, count, _ = ids.shape
    shown = torch.linspace(0, count - 1, min(count, SIDE * SIDE)).round().long()
    names = [bundle.conditions.names[label] for label in labels[shown].tolist()]
    columns = columns_of(len(shown), len(labels[shown].unique()), SIDE)
    note = f"; {len(shown)} of {count} samples" if len(shown) < count else ""
    final, mask_id = ids[-1, shown], bundle.nat.mask_id
    first = torch.full_like(final, mask_id) if begun is None else begun[shown]
    frames = canvas(bundle.tokenizer, first, final, mask_id, scale)
    sheets = [named_sheet(frames, names, columns, f"before step 1 of {num_steps}{note}")]
    for step in range(num_steps):
        confidence = None if confidences is None else confidences[step, shown]
        frames = canvas(bundle.tokenizer, ids[step, shown], final, mask_id, scale, confidence)
        title = f"after step {step + 1} of {num_steps}{note}"
        sheets.append(named_sheet(frames, names, columns, title))
    return sheets


def _lines(name: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """A name in lines that are not wider than so many pixels, the last one cut where it must be."""
    lines: list[str] = [""]
    words = name.split()
    for index, word in enumerate(words):
        longer = f"{lines[-1]} {word}".lstrip()
        if not lines[-1] or font.getlength(longer) <= width:
            lines[-1] = longer
        elif len(lines) < NAME_LINES:
            lines.append(word)
        else:
            lines[-1] = " ".join([lines[-1], *words[index:]])
            break
    return [_fitting(line, width, font) for line in lines]


def _fitting(name: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """As much of a name as is not wider than so many pixels."""
    if font.getlength(name) <= width:
        return name
    while name and font.getlength(name + "...") > width:
        name = name[:-1]
    return name and name + "..."
