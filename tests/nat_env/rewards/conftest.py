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


@pytest.fixture(scope="session")
def transformer_folder(tmp_path_factory):
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    folder = tmp_path_factory.mktemp("vit")
    ViTModel(config).save_pretrained(folder)
    return folder
