"""The distance of feature maps: against numpy, and for images alone."""

import numpy as np
import pytest
import torch

from pretrain.losses.perceptual import PerceptualLoss


@pytest.fixture(scope="module")
def loss():
    return PerceptualLoss((16, 12))


def pairs(channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, channels, 16, 12, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_mean_distance_of_directions(loss, channels):
    """At each place of each map, of vectors of length 1; in numpy, from the network's own maps."""
    images, originals = pairs(channels)
    found = loss(images, originals)
    means = []
    for one, other in zip(*(loss.network.stages(x) for x in (images, originals)), strict=True):
        one, other = (maps.double().numpy().transpose(0, 2, 3, 1) for maps in (one, other))
        one, other = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (one, other))
        means.append((2 - 2 * (one * other).sum(axis=-1)).mean())
    assert len(means) == 4 and found.shape == ()
    assert found.item() == pytest.approx(np.mean(means), rel=1e-4)


def test_equal_images_are_at_no_distance_and_a_shade_is_nearer_than_noise(loss):
    images, others = pairs()
    assert loss(images, images).item() == 0
    assert loss(images, (images + 0.01).clamp(0, 1)) < 0.2 * loss(images, others)


def test_gradients_reach_the_images_and_nothing_else(loss):
    images, originals = (part.clone().requires_grad_(True) for part in pairs())
    loss(images, originals).backward()
    assert images.grad is not None and bool((images.grad != 0).any(dim=1).all())
    assert originals.grad is None
    assert all(p.grad is None and not p.requires_grad for p in loss.parameters())
    # Downhill is nearer.
    nearer = (images - 0.1 * images.grad / images.grad.norm()).detach()
    assert loss(nearer, originals) < loss(images, originals)
