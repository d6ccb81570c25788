"""Pictures moved: against numpy, on white, and never beyond what they may be."""

import math

import numpy as np
import pytest
import torch

from pretrain.captioned import augmentation
from pretrain.captioned.augmentation import moved, reduced, transformed

STILL = {
    "turn": torch.zeros(1),
    "scale": torch.ones(1),
    "shift": torch.zeros(1, 2),
    "mirrored": torch.tensor([False]),
}


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_nothing_drawn_changes_nothing(monkeypatch):
    for name, still in (("MOST_SHIFT", 0.0), ("SCALES", (1.0, 1.0)), ("MOST_TURN", 0.0)):
        monkeypatch.setattr(augmentation, name, still)
    images = noise(20, 3, 8, 8)
    found = moved(images, torch.zeros(20, dtype=torch.bool), torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, images, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("left", "up"), [(0, 0), (2, 0), (-3, 0), (0, 1), (0, -2), (2, -3)])
def test_a_shift_is_a_roll_on_white(left, up):
    images = noise(1, 3, 8, 8)
    shift = torch.tensor([[left / 8, up / 8]])
    found = transformed(images, **(STILL | {"shift": shift}))[0].numpy()
    white = np.pad(images[0].numpy(), [(0, 0), (8, 8), (8, 8)], constant_values=1.0)
    expected = np.roll(white, (-up, -left), axis=(1, 2))[:, 8:16, 8:16]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_turns_scales_and_mirror_images():
    images = noise(1, 3, 8, 8)
    (image,) = images.numpy()
    quarter = transformed(images, **(STILL | {"turn": torch.tensor([math.pi / 2])}))[0]
    np.testing.assert_allclose(quarter, np.rot90(image, axes=(1, 2)), atol=1e-5)
    mirrored = transformed(images, **(STILL | {"mirrored": torch.tensor([True])}))[0]
    np.testing.assert_allclose(mirrored, image[:, :, ::-1], atol=1e-5)
    half = transformed(images, **(STILL | {"scale": torch.tensor([0.5])}))[0].numpy()
    middle = image.reshape(3, 4, 2, 4, 2).mean(axis=(2, 4))  # halfway between four pixels each
    np.testing.assert_allclose(half[:, 2:6, 2:6], middle, atol=1e-5)
    half[:, 2:6, 2:6] = 1
    np.testing.assert_allclose(half, 1, atol=1e-5)


def test_half_of_those_are_mirrored_that_may_be(monkeypatch):
    for name, still in (("MOST_SHIFT", 0.0), ("SCALES", (1.0, 1.0)), ("MOST_TURN", 0.0)):
        monkeypatch.setattr(augmentation, name, still)
    images = noise(1, 1, 4, 4).expand(400, 1, 4, 4)
    flips = torch.arange(400) % 2 == 0
    found = moved(images, flips, torch.Generator().manual_seed(1))
    changed = (found - images).abs().flatten(1).amax(1) > 1e-3
    torch.testing.assert_close(found[changed], images[changed].flip(3), atol=1e-5, rtol=0)
    assert not changed[~flips].any()
    assert 70 < changed[flips].sum() < 130  # of 200


def test_pixels_stay_pixels_and_draws_stay_within_bounds():
    images = (noise(300, 3, 16, 16) < 0.5).float()
    found = moved(images, torch.ones(300, dtype=torch.bool), torch.Generator().manual_seed(2))
    assert found.shape == images.shape
    assert found.min() >= 0 and found.max() <= 1
    again = moved(images, torch.ones(300, dtype=torch.bool), torch.Generator().manual_seed(2))
    assert torch.equal(found, again)
    white = torch.ones(50, 3, 16, 16)
    blank = moved(white, torch.ones(50, dtype=torch.bool), torch.Generator().manual_seed(3))
    assert torch.equal(blank, white)
    # A black disc of a quarter of the side: its middle goes by at most 0.08 of a side, scaled.
    y, x = np.mgrid[:64, :64] - 31.5
    disc = torch.from_numpy(1.0 - (np.hypot(x, y) < 16)).float().expand(200, 1, 64, 64)
    dark = 1 - moved(disc, torch.zeros(200, dtype=torch.bool), torch.Generator().manual_seed(4))
    dark = dark[:, 0].numpy()
    area = dark.sum(axis=(1, 2))
    middles = [(dark * axis).sum(axis=(1, 2)) / area / 64 for axis in (x, y)]
    scales = np.sqrt(area / (1 - disc[0].numpy()).sum())
    assert 0.79 < scales.min() < 0.84 and 1.06 < scales.max() < 1.11
    furthest = np.abs(middles).max()
    assert 0.06 < furthest < 0.08 * 1.1 * math.sqrt(2)


def test_reduced_images_are_means_of_blocks():
    images = noise(5, 3, 12, 12)
    expected = images.numpy().reshape(5, 3, 4, 3, 4, 3).mean(axis=(3, 5))
    np.testing.assert_allclose(reduced(images, 4), expected, atol=1e-6)
    assert torch.equal(reduced(images, 12), images)


@pytest.mark.parametrize("shape", [(12, 16), (16, 12), (6, 6), (10, 10)])
def test_sides_that_are_no_multiples_are_refused(shape):
    with pytest.raises(ValueError, match=rf"^images: got {shape[0]} x {shape[1]} pixels, allowed"):
        reduced(torch.zeros(1, 3, *shape), 4)
