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
def clip_folder(tmp_path_factory):
    """A tiny CLIP with random weights and letters for tokens, saved as transformers saves one."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = tmp_path_factory.mktemp("clip")
    characters = "abcdefghijklmnopqrstuvwxyz0123456789,"
    tokens = [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "initializer_factor": 8.0}
    text = {
        "vocab_size": len(tokens),
        "max_position_embeddings": 24,
        "eos_token_id": len(tokens) - 1,
    }
    text |= {"bos_token_id": len(tokens) - 2, "pad_token_id": len(tokens) - 1}
    vision = {"image_size": 24, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(text_config=sizes | text, vision_config=sizes | vision, projection_dim=8)
    ).save_pretrained(folder)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}
    ).save_pretrained(folder)
    return folder


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
