"""What black and white are inside a tokenizer's network."""

import json

import pytest
import torch
import torch.nn.functional as F

from nat_env.frozen.conditions import Conditions
from nat_env.models.vq import TokenizerConfig, VQTokenizer

SIZES = {
    "image_size": (8, 8), "channels": 1, "codebook_size": 16, "block_out_channels": (8, 16),
    "latent_channels": 4, "norm_num_groups": 4,
}  # fmt: skip


class Plain:
    """A network by hand: one padded convolution, and its output as it is."""

    def __init__(self):
        self.weight = torch.linspace(-1, 1, 9).view(1, 1, 3, 3)
        self.seen = None

    def encode(self, inside):
        self.seen = inside
        return type("Encoded", (), {"latents": F.conv2d(inside, self.weight, padding=1)})

    def decode(self, latents, force_not_quantize):
        return type("Decoded", (), {"sample": latents})


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_encode_and_decode_use_the_range(low):
    tokenizer = VQTokenizer(TokenizerConfig(**SIZES, input_range=(low, 1.0)))
    plain = tokenizer.__dict__["vq"] = Plain()
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    inside = low + (1 - low) * images
    # At the edges the padding is 0 inside: black for (0, 1), grey for (-1, 1).
    expected = F.conv2d(F.pad(inside, (1, 1, 1, 1), value=0.0), plain.weight)
    torch.testing.assert_close(tokenizer.latents(images), expected)
    torch.testing.assert_close(plain.seen, inside)
    torch.testing.assert_close(tokenizer.images(inside), images)


def test_files_before_the_range_load_and_a_range_is_kept(tmp_path):
    conditions = Conditions(("a", "b"))
    tokenizer = VQTokenizer(TokenizerConfig(**SIZES, input_range=(0.0, 1.0)))
    config = json.loads(json.dumps(tokenizer.save(tmp_path)))
    loaded = VQTokenizer.load(tmp_path, config, conditions)
    assert loaded.config == tokenizer.config
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(loaded.encode(images), tokenizer.encode(images))
    del config["input_range"]
    assert VQTokenizer.load(tmp_path, config, conditions).config.input_range == (-1.0, 1.0)
    with pytest.raises(ValueError, match="input_range: got"):
        TokenizerConfig(**SIZES, input_range=(0.0, 255.0))
