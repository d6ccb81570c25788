"""MaskGIT's VQGAN: the published names and sizes, and its equations in plain operations."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import nat_env.models.maskgit_vqgan
from nat_env.frozen.conditions import Conditions
from nat_env.models.maskgit_vqgan import MaskGITVQGAN, MaskGITVQGANConfig

TINY = MaskGITVQGANConfig(
    (32, 64), channels=1, codebook_size=7, latent_channels=5, width=32, multipliers=(1, 1, 2, 2, 4)
)


def published_names():
    """Of the file that MAGE, MUSE, AutoNAT and AdaNAT share."""

    def block(name, widens):
        parts = ["norm1.weight", "norm1.bias", "conv1.weight"]
        parts += ["norm2.weight", "norm2.bias", "conv2.weight"]
        return {f"{name}.{part}" for part in parts + ["nin_shortcut.weight"] * widens}

    names = {"quantize.embedding.weight", "encoder.conv_in.weight", "decoder.conv_in.weight"}
    names |= {"decoder.conv_in.bias"}
    for half in ("encoder", "decoder"):
        names |= block(f"{half}.mid.block_1", False) | block(f"{half}.mid.block_2", False)
        for last in ("norm_out", "conv_out"):
            names |= {f"{half}.{last}.weight", f"{half}.{last}.bias"}
    for level in range(5):
        for number in range(2):
            wider = number == 0
            names |= block(f"encoder.down.{level}.block.{number}", wider and level in (2, 4))
            names |= block(f"decoder.up.{level}.block.{number}", wider and level in (1, 3))
        if level:
            conv = f"decoder.up.{level}.upsample.conv"
            names |= {f"{conv}.weight", f"{conv}.bias"}
    return names


def group_norm(state, name, x):
    grouped = x.reshape(len(x), 32, -1)
    centred = grouped - grouped.mean(dim=2, keepdim=True)
    scaled = centred / (centred.square().mean(dim=2, keepdim=True) + 1e-6).sqrt()
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return scaled.view_as(x) * weight[:, None, None] + bias[:, None, None]


def swish(x):
    return x * torch.sigmoid(x)


def convolution(state, name, x):
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)


def residual_block(state, name, x):
    h = convolution(state, f"{name}.conv1", swish(group_norm(state, f"{name}.norm1", x)))
    h = convolution(state, f"{name}.conv2", swish(group_norm(state, f"{name}.norm2", h)))
    if f"{name}.nin_shortcut.weight" in state:
        x = convolution(state, f"{name}.nin_shortcut", h)  # of h
    return x + h


def authors_latents(state, images):
    x = convolution(state, "encoder.conv_in", images)
    for level in range(5):
        for number in range(2):
            x = residual_block(state, f"encoder.down.{level}.block.{number}", x)
        if level < 4:
            x = (x[..., ::2, :] + x[..., 1::2, :]) / 2
            x = (x[..., ::2] + x[..., 1::2]) / 2
    for name in ("block_1", "block_2"):
        x = residual_block(state, f"encoder.mid.{name}", x)
    return convolution(state, "encoder.conv_out", swish(group_norm(state, "encoder.norm_out", x)))


def authors_images(state, ids, grid):
    x = state["quantize.embedding.weight"][ids].view(len(ids), *grid, -1).permute(0, 3, 1, 2)
    x = convolution(state, "decoder.conv_in", x)
    for name in ("block_1", "block_2"):
        x = residual_block(state, f"decoder.mid.{name}", x)
    for level in (4, 3, 2, 1, 0):
        for number in range(2):
            x = residual_block(state, f"decoder.up.{level}.block.{number}", x)
        if level:
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            x = convolution(state, f"decoder.up.{level}.upsample.conv", x)
    return convolution(state, "decoder.conv_out", swish(group_norm(state, "decoder.norm_out", x)))


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    vqgan = MaskGITVQGAN(TINY).eval().requires_grad_(False)
    for name, weight in vqgan.state_dict().items():
        if "norm" in name:
            weight += torch.randn_like(weight) / 4
    images = torch.rand(5, 1, 32, 64)
    # Codes among the latents that there are, so that they are all the nearest somewhere.
    vectors = vqgan.latents(images).movedim(1, -1).flatten(0, 2)
    vqgan.codebook.copy_(vectors[torch.linspace(0, len(vectors) - 1, 7).long()] + 1e-3)
    return vqgan, images


def test_the_published_network():
    with torch.device("meta"):
        vqgan = MaskGITVQGAN(MaskGITVQGANConfig())
        ids, images = torch.empty(1, 256, dtype=torch.int64), torch.empty(1, 3, 256, 256)
    assert set(vqgan.state_dict()) == published_names()
    assert len(vqgan.state_dict()) == 168
    assert round(sum(p.numel() for p in vqgan.parameters()) / 1e6, 1) == 54.5
    assert vqgan.state_dict()["quantize.embedding.weight"].shape == (1024, 256)
    assert vqgan.grid == (16, 16)
    with FlopCounterMode(display=False) as counter:
        assert vqgan.decode(ids).shape == images.shape
    assert round(counter.get_total_flops() / 2e9, 1) == 93.3
    assert vqgan.latents(images).shape == (1, 256, 16, 16)


def test_encode_and_decode_equal_the_equations(tiny):
    vqgan, images = tiny
    state = {name: weight.double() for name, weight in vqgan.state_dict().items()}
    latents = authors_latents(state, images.double())
    torch.testing.assert_close(vqgan.latents(images).double(), latents, rtol=1e-4, atol=1e-4)
    vectors = latents.movedim(1, -1).flatten(1, 2)  # [B, N, L]
    codes = state["quantize.embedding.weight"]
    distances = ((vectors[:, :, None] - codes) ** 2).sum(dim=3)
    ids = vqgan.encode(images)
    assert torch.equal(ids, distances.argmin(dim=2))
    assert ids.shape == (5, 8) and len(ids.unique()) == 7
    expected = authors_images(state, ids, (2, 4))
    assert expected.min() < 0 < expected.max()  # what is outside is cut off
    decoded = vqgan.decode(ids)
    torch.testing.assert_close(decoded.double(), expected.clamp(0, 1), rtol=1e-4, atol=1e-4)


def test_memory_is_bounded_by_pixels_and_batches_change_nothing(tiny, monkeypatch):
    vqgan, images = tiny
    ids, decoded = vqgan.encode(images), vqgan.decode(vqgan.encode(images))
    monkeypatch.setattr(nat_env.models.maskgit_vqgan, "PIXELS_AT_ONCE", 2 * 32 * 64 + 1)
    rows = []
    hooks = [
        part.register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
        for part in (vqgan.encoder, vqgan.decoder)
    ]
    assert torch.equal(vqgan.encode(images), ids)
    torch.testing.assert_close(vqgan.decode(ids), decoded, rtol=1e-5, atol=1e-5)
    for hook in hooks:
        hook.remove()
    assert rows == [2, 2, 1] * 2


def test_it_is_kept(tiny, tmp_path):
    vqgan, images = tiny
    config = json.loads(json.dumps(vqgan.save(tmp_path)))
    loaded = MaskGITVQGAN.load(tmp_path, config, Conditions(("a",)))
    assert loaded.config == TINY
    assert torch.equal(loaded.decode(loaded.encode(images)), vqgan.decode(vqgan.encode(images)))
    assert not any(weight.requires_grad for weight in loaded.parameters())


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"image_size": (32, 40)}, r"^image_size: got \(32, 40\), .* factor 16"),
        ({"width": 48}, r"^width: got 48, allowed are multiples of 32"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        MaskGITVQGANConfig(**sizes)
    assert math.prod(MaskGITVQGANConfig((512, 512)).grid) == 1024
