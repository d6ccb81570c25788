"""What black and white are inside a tokenizer's network."""

import json

import pytest
import torch
import torch.nn.functional as F
from diffusers import VQModel

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
        self.config = type("Config", (), {"norm_type": "group"})

    def encode(self, inside):
        self.seen = inside
        return type("Encoded", (), {"latents": F.conv2d(inside, self.weight, padding=1)})

    def post_quant_conv(self, latents):
        return latents

    def decoder(self, latents, spatial):
        assert spatial is None
        return latents


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


@pytest.mark.parametrize("norm", ["group", "spatial"])
@pytest.mark.parametrize("lookup", [False, True])
def test_any_vq_model_of_diffusers_is_a_tokenizer(tmp_path, norm, lookup):
    torch.manual_seed(0)
    widths, size = ((32, 32), 4) if norm == "spatial" else ((4, 8), 3)  # as that norm needs it
    vq = VQModel(
        in_channels=1, out_channels=1, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=widths, latent_channels=4,
        vq_embed_dim=size, num_vq_embeddings=16, norm_num_groups=4, norm_type=norm,
        lookup_from_codebook=lookup,
    ).eval()  # fmt: skip
    vq.quantize.embedding.weight.data.normal_()
    vq.save_pretrained(tmp_path / "theirs")
    tokenizer = VQTokenizer.of_folder(tmp_path / "theirs", (8, 12), (-1.0, 1.0))
    assert (tokenizer.grid, tokenizer.codebook_size, tokenizer.channels) == ((4, 6), 16, 1)
    ids = torch.randint(16, (2, 24))
    codes = vq.quantize.embedding.weight[ids].view(2, 4, 6, size).permute(0, 3, 1, 2)
    with torch.no_grad():  # quantising a code gives the code
        expected = (vq.decode(codes).sample + 1) / 2
    torch.testing.assert_close(tokenizer.decode(ids), expected.clamp(0, 1))

    (tmp_path / "ours").mkdir()
    again = VQTokenizer.load(
        tmp_path / "ours", tokenizer.save(tmp_path / "ours"), Conditions(("a",))
    )
    assert torch.equal(again.decode(ids), tokenizer.decode(ids))
    told = [json.loads((tmp_path / f / "config.json").read_text()) for f in ("theirs", "ours")]
    assert told[0] == told[1]
    with pytest.raises(ValueError, match=r"^image_size: got \(8, 9\), allowed are multiples"):
        VQTokenizer.of_folder(tmp_path / "theirs", (8, 9), (0.0, 1.0))


def test_a_folder_of_another_model_or_half_of_one_is_refused(tmp_path):
    VQTokenizer(TokenizerConfig(**SIZES)).save(tmp_path)
    weights, config = tmp_path / "diffusion_pytorch_model.safetensors", tmp_path / "config.json"
    whole, told = weights.read_bytes(), json.loads(config.read_text())

    def refused(message):
        with pytest.raises(ValueError, match=message):
            VQTokenizer.of_folder(tmp_path, (8, 8), (0.0, 1.0)).decode(torch.zeros(1, 16).long())

    weights.write_bytes(whole[:-10])
    refused(r"^folder: .*model.safetensors is no whole file .*download it again")
    weights.unlink()
    refused(r"^folder: .*model.safetensors is missing")
    weights.write_bytes(whole)
    config.write_text(json.dumps(told | {"layers_per_block": 2}))
    refused(r"model.safetensors is not of the VQModel .*missing keys decoder.")
    config.write_text(json.dumps(told | {"_class_name": "AutoencoderKL"}))
    refused(r"^folder: .*config.json is of a AutoencoderKL, allowed is a VQModel")
    config.write_text("{")
    refused(r"^folder: .*config.json is damaged")


def test_images_are_encoded_as_many_at_once_as_memory_takes(monkeypatch):
    torch.manual_seed(0)
    tokenizer = VQTokenizer(TokenizerConfig(**SIZES))
    images, seen, latents = torch.rand(5, 1, 8, 8), [], tokenizer.latents
    whole = tokenizer.encode(images)

    def watched(given):
        seen.append(len(given))
        return latents(given)

    monkeypatch.setattr(tokenizer, "latents", watched)
    monkeypatch.setattr(tokenizer._at_once, "on", lambda device, pixels: 2)
    assert torch.equal(tokenizer.encode(images), whole)
    assert seen == [2, 2, 1]
