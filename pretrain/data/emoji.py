"""Colour emoji of three freely licensed sets, each with a caption that names thing and style."""

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pretrain.data.captioned import (
    TRAINING,
    UNSEEN_CONCEPT,
    UNSEEN_STYLE,
    CaptionedImages,
    captioned,
)
from pretrain.data.drawing import draw_svg, require_resvg
from pretrain.data.emoji_mirrors import mirror_means_the_same
from pretrain.data.emoji_names import is_nameable, wordings
from pretrain.data.icon_sets import ICON_SETS, Icon, read_icons

LEFT_OUT = {"People & Body", "Flags"}
"""Categories: too small for 32 x 32 pixels, and nearly the same many times."""
UNSEEN_CONCEPTS = 100
"""Held out in all three styles."""
UNSEEN_STYLES = 300
"""Concepts of which one style is held out."""
_SEED = 0


def emoji(data: Path | None = None, image_size: int = 32) -> CaptionedImages:
    """Some 3,700 emoji of 1,250 concepts in up to three styles, on white, in a random order.

    The same on every run: what they are depends on the packages, whose versions and hashes are
    fixed, on `image_size`, and on how resvg and Pillow draw. A concept is what Unicode counts as
    one emoji; its name and category are those of the first set that has it. People and flags are
    left out, and emoji that no person could name: single letters, and Japanese writing.

    Args:
        data: a folder that has the three npm packages, see `read_icons`; by default npm fetches
            them once into the user's cache.
        image_size: height and width in pixels.

    Raises:
        ValueError: a package is missing, of another version or damaged, or a size below 1.
        ImportError: resvg-py, which draws, is not installed.

    Warns:
        UserWarning: drawings that are damaged, which are left out; how many, and which.
    """
    if image_size < 1:
        raise ValueError(f"image_size: got {image_size}, allowed is 1 or more")
    require_resvg()
    icons = [
        {i.codepoints: i for i in read_icons(s, data) if i.category not in LEFT_OUT}
        for s in ICON_SETS
    ]
    codes = sorted({code for of_set in icons for code in of_set})
    concepts = [[(s, of_set[c]) for s, of_set in enumerate(icons) if c in of_set] for c in codes]
    concepts = [icon_of for icon_of in concepts if is_nameable(icon_of[0][1].name)]
    return _captioned_images(concepts, image_size)


def _captioned_images(concepts: list[list[tuple[int, Icon]]], size: int) -> CaptionedImages:
    """The icons of each concept, with their style's number, drawn and described."""
    described = _descriptions([[icon for _, icon in concept] for concept in concepts])
    categories = sorted({concept[0][1].category for concept in concepts})
    images, descriptions, rows, damaged = [], [], [], []
    for number, concept in enumerate(concepts):
        category = concept[0][1].category
        flips = all(mirror_means_the_same(icon.name, category) for _, icon in concept)
        for style, icon in concept:
            image = _drawn(icon, size)
            if image is None:
                damaged.append(f"{icon.name} ({ICON_SETS[style].style})")
                continue
            images.append(image)
            descriptions.append(described[number])
            rows.append((style, categories.index(category), number, flips))
    if not images:
        raise ValueError(f"data: none of the {len(damaged)} drawings can be read")
    if damaged:
        warnings.warn(
            f"{len(damaged)} of {len(damaged) + len(images)} drawings are damaged and left out: "
            f"{', '.join(damaged[:5])}{' ...' if len(damaged) > 5 else ''}",
            stacklevel=3,
        )
    style, category, concept, flips = torch.tensor(rows).T  # of each [n]
    generator = torch.Generator().manual_seed(_SEED)
    split = held_out(concept, style, generator)
    order = torch.randperm(len(rows), generator=generator)
    styles = tuple(icon_set.style for icon_set in ICON_SETS)
    return CaptionedImages(
        name="emoji",
        images=torch.from_numpy(np.stack(images))[order],
        captions=tuple(captioned(descriptions[i][0], styles[style[i]]) for i in order),
        descriptions=tuple(descriptions[i] for i in order),
        styles=styles,
        style=style[order],
        categories=tuple(categories),
        category=category[order],
        concept=concept[order],
        flips=flips[order].bool(),
        split=split[order],
    )


def _drawn(icon: Icon, size: int) -> np.ndarray | None:
    """Its image [3, size, size], or none: it is no SVG, or shows nothing."""
    with suppress(ValueError):
        image = draw_svg(icon.svg, size)
        if image.min() < 255:
            return image
    return None


def _descriptions(concepts: list[list[Icon]]) -> list[tuple[str, ...]]:
    """Wordings of each concept, by all names that the sets have for it; none is of two concepts."""
    found = []
    for icons in concepts:
        names = [icon.name for icon in icons]
        found.append(wordings([*names, *(n for icon in icons for n in icon.other_names)]))
    uses: dict[str, int] = {}
    for wording in (w for of_concept in found for w in of_concept):
        uses[wording] = uses.get(wording, 0) + 1
    return [(first, *(w for w in others if uses[w] == 1)) for first, *others in found]


def held_out(concept: Tensor, style: Tensor, generator: torch.Generator) -> Tensor:
    """Which images are trained on, and which are held out.

    Of concepts that have every style, some are held out altogether, and of others one style each;
    as many as `UNSEEN_CONCEPTS` and `UNSEEN_STYLES` say, or where concepts are few, a twelfth and
    a quarter of them.

    Args:
        concept: [n] int64.
        style: [n] int64.
        generator: draws them.

    Returns:
        [n] int8: 0 training, 1 unseen style, 2 unseen concept.
    """
    whole = torch.nonzero(torch.bincount(concept) == len(ICON_SETS)).flatten()
    whole = whole[torch.randperm(len(whole), generator=generator)]
    num_concepts = min(UNSEEN_CONCEPTS, len(whole) // 12)
    num_styles = min(UNSEEN_STYLES, len(whole) // 4)
    unseen, partly = whole[:num_concepts], whole[num_concepts : num_concepts + num_styles]
    unseen_style = torch.full((int(concept.max()) + 1,), -1)
    unseen_style[partly] = torch.randint(len(ICON_SETS), (len(partly),), generator=generator)
    split = torch.full(concept.shape, TRAINING, dtype=torch.int8)
    split[unseen_style[concept] == style] = UNSEEN_STYLE
    split[torch.isin(concept, unseen)] = UNSEEN_CONCEPT
    return split
