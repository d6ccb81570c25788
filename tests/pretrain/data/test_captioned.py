"""Images with captions: what does not belong together is refused."""

import pytest
import torch

from pretrain.data.captioned import CaptionedImages

GOOD = {
    "name": "mine",
    "images": torch.zeros(3, 3, 4, 4, dtype=torch.uint8),
    "captions": ("a dot, oil style", "a dot, ink style", "a dash, ink style"),
    "descriptions": (("a dot", "dot"), ("a dot",), ("a dash",)),
    "styles": ("oil", "ink"),
    "style": torch.tensor([0, 1, 1]),
    "categories": ("signs",),
    "category": torch.tensor([0, 0, 0]),
    "concept": torch.tensor([0, 0, 1]),
    "flips": torch.tensor([True, True, False]),
    "split": torch.tensor([0, 1, 2], dtype=torch.int8),
}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("images", torch.zeros(3, 3, 4, 4)),
        ("images", torch.zeros(3, 1, 4, 4, dtype=torch.uint8)),
        ("images", torch.zeros(0, 3, 4, 4, dtype=torch.uint8)),
        ("captions", ("a dot, oil style", "a dot, ink style")),
        ("captions", ("a dot, oil style", "a dot, oil style", "a dash, ink style")),
        ("captions", ("a dot, oil style", "a dot", "a dash, ink style")),
        ("captions", ("dot, oil style", "a dot, ink style", "a dash, ink style")),
        ("descriptions", (("a dot",), ("a dot",))),
        ("style", torch.tensor([0, 1, 2])),
        ("style", torch.tensor([0, 1])),
        ("category", torch.tensor([0, 0, -1])),
        ("category", torch.zeros(3)),
        ("concept", torch.tensor([[0, 0, 1]])),
        ("concept", torch.tensor([0, 0, 3])),
        ("flips", torch.tensor([1, 1, 0])),
        ("split", torch.tensor([0, 1, 2])),
        ("split", torch.tensor([0, 1, 3], dtype=torch.int8)),
    ],
)
def test_what_does_not_belong_together_is_refused(argument, value):
    CaptionedImages(**GOOD)
    with pytest.raises(ValueError, match=rf"^{argument}: got .*allowed "):
        CaptionedImages(**(GOOD | {argument: value}))


def test_an_image_without_a_description_is_refused():
    with pytest.raises(ValueError, match=r"^captions: got 'a dot, oil style' of \(\)"):
        CaptionedImages(**(GOOD | {"descriptions": ((), ("a dot",), ("a dash",))}))
