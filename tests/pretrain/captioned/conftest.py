"""Sixty small images of thirty things in two styles, with captions of letters."""

from itertools import product

import pytest
import torch

from pretrain.data.captioned import (
    TRAINING,
    UNSEEN_CONCEPT,
    UNSEEN_STYLE,
    CaptionedImages,
    captioned,
)

STYLES = ("oil", "ink")
THINGS = list(product(range(5), range(6)))


@pytest.fixture
def data() -> CaptionedImages:
    """On white a square for each thing, of its own place; bright in one style, dark in the other.

    Of three things nothing is trained on, of four one style is not.
    """
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(2 * len(THINGS), generator=generator)
    concept, style = order // 2, order % 2
    images = torch.full((len(order), 3, 16, 16), 255, dtype=torch.uint8)
    descriptions = []
    for image, thing, dark in zip(images, concept.tolist(), style.tolist(), strict=True):
        one, other = THINGS[thing]
        image[:2, 2 * one : 2 * one + 6, 2 * other : 2 * other + 4] = 30 if dark else 120
        words = "a" * (one + 1) + " " + "e" * (other + 1)
        descriptions.append((words, f"i {words}", f"{words} o"))
    split = torch.full(order.shape, TRAINING, dtype=torch.int8)
    split[(concept < 7) & (style == 1)] = UNSEEN_STYLE
    split[concept < 3] = UNSEEN_CONCEPT
    return CaptionedImages(
        name="toys",
        images=images,
        captions=tuple(
            captioned(texts[0], STYLES[s])
            for texts, s in zip(descriptions, style.tolist(), strict=True)
        ),
        descriptions=tuple(descriptions),
        styles=STYLES,
        style=style,
        categories=("things",),
        category=torch.zeros_like(style),
        concept=concept,
        flips=concept % 2 == 0,
        split=split,
    )


@pytest.fixture
def sentences(data, toy_text) -> dict[str, torch.Tensor]:
    """What the toy encoder says of each wording."""
    encoder = toy_text.ToySentences(STYLES)
    texts = [text for wordings in data.descriptions for text in wordings]
    return dict(zip(texts, encoder.encode(texts)[1][:, :4], strict=True))
