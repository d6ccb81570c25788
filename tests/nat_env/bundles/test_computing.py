"""How a bundle's models compute: the decoder's dtype, rows of a pass, a compiled transformer."""

import copy

import pytest
import torch

from nat_env.bundles.loading import load_bundle
from nat_env.bundles.writer import save_bundle
from nat_env.frozen.conditions import Conditions
from nat_env.models.maskgit_vqgan import MaskGITVQGAN, MaskGITVQGANConfig
from nat_env.models.uvit import UViT, UViTConfig

IDS = torch.arange(32).view(2, 16)


@pytest.fixture(scope="module")
def vqgan_folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vqgan") / "bundle"
    tokenizer = MaskGITVQGAN(
        MaskGITVQGANConfig((16, 16), codebook_size=64, width=32, multipliers=(1, 1, 1))
    )
    transformer = UViT(UViTConfig(64, (4, 4), 3, 8, 3, 2)).eval()
    save_bundle(
        folder,
        name="random",
        conditions=Conditions(("a", "b", "c")),
        transformer=transformer,
        tokenizer=tokenizer,
    )
    return folder


def decoded_by_hand(tokenizer, dtype):
    """Images [B, C, H, W] by layers of that dtype, one after the other."""
    height, width = tokenizer.grid
    latents = tokenizer.codebook[IDS].transpose(1, 2).unflatten(2, (height, width)).to(dtype)
    if isinstance(tokenizer, MaskGITVQGAN):
        return copy.deepcopy(tokenizer.decoder).to(dtype)(latents).float().clamp(0, 1)
    first, decoder = (
        copy.deepcopy(layer).to(dtype)
        for layer in (tokenizer.vq.post_quant_conv, tokenizer.vq.decoder)
    )
    low, high = tokenizer.config.input_range
    patches = decoder(first(latents.contiguous()))
    images = torch.nn.functional.pixel_shuffle(patches, tokenizer.config.patch_size)
    return ((images - low) / (high - low)).clamp(0, 1).float()


@pytest.mark.parametrize("of", ["vq", "maskgit-vqgan"])
def test_the_decoder_computes_in_the_dtype_that_is_asked_for(of, vqgan_folder):
    name = "digits" if of == "vq" else vqgan_folder
    whole, half = (load_bundle(name, "float32", decoder_dtype=d) for d in ("float32", "bfloat16"))
    assert [whole.decoder_dtype, half.decoder_dtype] == ["float32", "bfloat16"]
    with torch.no_grad():
        for bundle, dtype in ((whole, torch.float32), (half, torch.bfloat16)):
            images = bundle.tokenizer.decode(IDS)
            assert images.dtype == torch.float32
            assert torch.equal(images, decoded_by_hand(bundle.tokenizer, dtype))
    images = [bundle.tokenizer.decode(IDS) for bundle in (whole, half)]
    assert 0 < (images[0] - images[1]).abs().max() < 0.05
    assert torch.equal(whole.tokenizer.encode(images[0]), half.tokenizer.encode(images[0]))


def test_other_dtypes_of_the_decoder_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"^decoder_dtype: got 'float16', allowed are"):
        load_bundle("digits", decoder_dtype="float16")
    monkeypatch.setattr("nat_env.bundles.loading.hasattr", lambda *_: False, raising=False)
    load_bundle.cache_clear()
    with pytest.raises(
        ValueError, match=r"decoder_dtype: got .*bfloat16, allowed with VQTokenizer"
    ):
        load_bundle("digits", decoder_dtype="bfloat16")


def test_rows_of_a_pass_are_as_many_as_are_asked_for():
    bundle = load_bundle("digits", "float32", rows_per_pass=3)
    rows = []
    hook = bundle.nat.transformer.register_forward_hook(lambda _, a, __: rows.append(len(a[0])))
    bundle.nat.passes(torch.full((4, 16), bundle.nat.mask_id), torch.arange(4))
    hook.remove()
    assert rows == [3, 3, 2]
    assert load_bundle("digits", "float32").nat.rows_per_pass == 128


def test_a_compiled_transformer_is_the_one_that_passes_go_through(monkeypatch):
    compiled = []

    def compile_(network):
        compiled.append(network)
        return lambda *given: network(*given)._replace(logits=torch.full((2, 16, 64), 7.0))

    monkeypatch.setattr(torch, "compile", compile_)
    load_bundle.cache_clear()
    nat = load_bundle("digits", "float32", compiled=True).nat
    passes = nat.passes(torch.full((1, 16), nat.mask_id), torch.tensor([1]))
    load_bundle.cache_clear()
    assert compiled == [nat.transformer]
    assert (passes.logits == 7).all()
