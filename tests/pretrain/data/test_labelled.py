"""Images and labels that belong together, and such that do not."""

import pytest
import torch

from pretrain.data.labelled import LabelledImages

GOOD = {
    "name": "mine",
    "class_names": ("a", "b"),
    "train_images": torch.zeros(3, 1, 4, 4, dtype=torch.uint8),
    "train_labels": torch.tensor([0, 1, 1]),
    "test_images": torch.zeros(2, 1, 4, 4, dtype=torch.uint8),
    "test_labels": torch.tensor([1, 0]),
}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("train_images", torch.zeros(3, 1, 4, 4)),
        ("train_images", torch.zeros(3, 4, 4, dtype=torch.uint8)),
        ("test_images", torch.zeros(0, 1, 4, 4, dtype=torch.uint8)),
        ("train_labels", torch.tensor([0, 1])),
        ("train_labels", torch.tensor([[0, 1, 1]])),
        ("train_labels", torch.tensor([0, 1, 2])),
        ("test_labels", torch.tensor([-1, 0])),
        ("test_labels", torch.tensor([0, 1, 1])),
        ("test_labels", torch.tensor([0.0, 1.0])),
    ],
)
def test_images_and_labels_that_do_not_belong_together_are_refused(argument, value):
    LabelledImages(**GOOD)
    with pytest.raises(ValueError, match=rf"^{argument}: "):
        LabelledImages(**(GOOD | {argument: value}))
