"""Bundles whose weights are on the disk in half precision."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file

from nat_env import load_bundle
from nat_env.bundles.writer import save_bundle
from nat_env.bundles.yardstick import Yardstick
from nat_env.frozen.weights import halve, round_to_half


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


def saved(bundle, folder, transformer=None, **options):
    save_bundle(
        folder,
        name=bundle.name,
        conditions=bundle.conditions,
        transformer=transformer or bundle.nat.transformer,
        tokenizer=bundle.tokenizer,
        yardstick=bundle.yardstick,
        trunk=bundle.trunk,
        **options,
    )
    return folder


def networks(bundle):
    return {
        "transformer": bundle.nat.transformer,
        "tokenizer": bundle.tokenizer.vq,
        "judge": bundle.require("yardstick").judge,
        "trunk": bundle.require("trunk"),
    }


def test_loaded_weights_are_the_nearest_of_float16_in_float32(bundle, tmp_path):
    loaded = load_bundle(saved(bundle, tmp_path / "half", weights="float16"), "float32")
    before = networks(bundle)
    for part, network in networks(loaded).items():
        expected = before[part].state_dict()
        for name, values in network.state_dict().items():
            whole = not expected[name].is_floating_point()
            rounded = expected[name].numpy().astype("f2").astype("f4")
            assert values.dtype == (torch.int64 if whole else torch.float32)
            assert torch.equal(values, expected[name] if whole else torch.from_numpy(rounded))
        assert any(not torch.equal(v, expected[n]) for n, v in network.state_dict().items())
    assert isinstance(loaded.yardstick, Yardstick)
    assert (loaded.yardstick.statistics.mean == bundle.yardstick.statistics.mean).all()


def test_the_files_are_half_as_large(bundle, tmp_path):
    for weights in ("float32", "float16"):
        saved(bundle, tmp_path / weights, weights=weights)
    for path in (tmp_path / "float32").glob("*/*.safetensors"):
        other = tmp_path / "float16" / path.relative_to(tmp_path / "float32")
        assert 0.45 < other.stat().st_size / path.stat().st_size < 0.6, path


def test_what_was_rounded_before_is_the_same_after(bundle, tmp_path):
    transformer = copy.deepcopy(bundle.nat.transformer).half().float()
    loaded = load_bundle(
        saved(bundle, tmp_path / "half", transformer, weights="float16"), "float32"
    )
    ids = torch.full((2, bundle.num_tokens), bundle.nat.mask_id)
    condition = torch.tensor([3, 10])
    found = loaded.nat.transformer(ids, condition)
    assert torch.equal(found.logits, transformer(ids, condition).logits)


def test_networks_that_are_rounded_compute_what_a_loaded_bundle_does(bundle, tmp_path):
    """So what is measured while a bundle is made is of the bundle."""
    loaded = load_bundle(saved(bundle, tmp_path / "half", weights="float16"), "float32")
    found = networks(loaded)
    for part, network in networks(bundle).items():
        rounded = copy.deepcopy(network)
        round_to_half(rounded)
        state = found[part].state_dict()
        assert rounded.state_dict().keys() == state.keys()
        for name, values in rounded.state_dict().items():
            assert values.dtype == state[name].dtype and torch.equal(values, state[name]), name


def test_only_float32_is_rounded_and_nothing_else_is_lost(tmp_path):
    weights = {
        "a": torch.tensor([1 / 3]),
        "b": torch.tensor([7]),
        "c": torch.tensor([0.1]).double(),
    }
    save_file(weights, tmp_path / "x.safetensors", {"format": "pt"})
    halve(tmp_path / "x.safetensors")
    found = load_file(tmp_path / "x.safetensors")
    assert torch.equal(found["a"], torch.tensor([1 / 3]).half())
    assert torch.equal(found["b"], weights["b"]) and torch.equal(found["c"], weights["c"])
    assert b'"format":"pt"' in (tmp_path / "x.safetensors").read_bytes()


def test_bad_weights_are_refused_and_nothing_is_written(bundle, tmp_path):
    with pytest.raises(
        ValueError, match=r"^weights: got 'int8', allowed are \('float32', 'float16'\)"
    ):
        saved(bundle, tmp_path / "new", weights="int8")
    transformer = copy.deepcopy(bundle.nat.transformer)
    transformer.head_bias[0] = 1e5
    with pytest.raises(
        ValueError, match=r"^weights: got up to 1e\+05 in head_bias, .* is up to 65504"
    ):
        saved(bundle, tmp_path / "new", transformer, weights="float16")
    assert not (tmp_path / "new").exists()
