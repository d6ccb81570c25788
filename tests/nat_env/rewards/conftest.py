"""What every reward keeps to."""

import pytest
import torch


@pytest.fixture
def assert_deterministic():
    """Of a reward of images and labels: that it repeats, and leaves all else as it is."""

    def check(reward, images, labels):
        kept, before = images.clone(), torch.get_rng_state()
        first = reward(images.requires_grad_(), labels)
        for _ in range(3):
            again = reward(images, labels)
            assert torch.equal(again, first)
            assert not again.requires_grad
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(images, kept)

    return check
