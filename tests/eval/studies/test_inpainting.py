"""The picture of completions: test images, their upper halves, and what `generate` makes of it."""

import numpy as np
import pytest
import torch
from PIL import Image

from eval.studies import inpainting
from eval.studies.arguments import Inpainting
from nat_env.generation import generate
from nat_env.policies import ScheduledPolicy
from nat_env.render import MASK_COLOUR, to_rgb
from nat_env.schedules import heuristic_schedule
from pretrain.data.labelled import LabelledImages


def test_rows_are_images_what_is_kept_and_completions(digits):
    images, labels = digits.reals.images[:3].float() / 255, digits.reals.conditions[:3]
    policy = ScheduledPolicy(heuristic_schedule(2))
    rows = inpainting.completions(digits, images, labels, policy, 2, seed=4, count=2)
    assert rows.shape == (4, 3, 8, 8, 3)
    np.testing.assert_array_equal(rows[0], to_rgb(images))
    np.testing.assert_array_equal(rows[1, :, :4], rows[0, :, :4])
    assert (rows[1, :, 4:] == MASK_COLOUR).all()
    ids = digits.tokenizer.encode(images)
    known = (torch.arange(16) < 8).expand(3, -1)
    for k in range(2):
        drawn = generate(digits, policy, labels, 2, seed=4 + 3 * k, ids=ids, known=known)
        np.testing.assert_allclose(rows[2 + k].astype(int), to_rgb(drawn).astype(int), atol=1)


@pytest.fixture
def few_images(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    data = LabelledImages("fashion", ("a", "b", "c"), images, labels, images, labels)
    monkeypatch.setattr(inpainting, "fashion_mnist", lambda folder: data)


def test_the_picture_has_a_row_for_each_and_a_column_for_each_image(few_images, tmp_path):
    path = inpainting.run(
        Inpainting(tmp_path / "out", num_images=3, completions=2, num_steps=1, dtype="float32")
    )
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    rows, columns = 4 * 58 + 2, 3 * 58 + 2
    assert pixels.shape[0] == 84 + rows + 12
    sheet = pixels[84 : 84 + rows, -12 - columns : -12]
    blue = (sheet == MASK_COLOUR).all(axis=2)
    assert blue.sum() == 3 * 32 * 56  # of 28 rows the lower 16 are of tokens not known as a whole
    assert not blue[: 58 + 2].any() and not blue[2 * 58 :].any()


def test_more_images_than_there_are_is_refused(few_images, tmp_path):
    with pytest.raises(ValueError, match=r"^num_images: got 7, allowed are at most 6 test images"):
        inpainting.run(Inpainting(tmp_path / "out", num_images=7, dtype="float32"))
