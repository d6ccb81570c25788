"""A cache of tokens: the tokenizer's own, whenever it was interrupted, and of nothing else."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import pretrain.tokens.fill
from nat_env import load_bundle
from nat_env.bundles.writer import save_bundle
from nat_env.models.uvit import UViTConfig
from pretrain.arguments import Tokens
from pretrain.loop import LoopConfig
from pretrain.tokens.cache import TokenCache
from pretrain.tokens.fill import fill, tokenizer_fingerprint
from pretrain.transformer import TransformerTraining, train_transformer


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


@pytest.fixture
def arguments(bundle, tmp_path):
    """Two images of each class but one of class 3, in shards of four."""
    for label in range(10):
        (tmp_path / "data" / str(label)).mkdir(parents=True)
        for index in range(2 - (label == 3)):
            pixels = bundle.reals.images[2 * label + index, 0].numpy()
            Image.fromarray(pixels).save(tmp_path / "data" / str(label) / f"{index}.png")
    return Tokens(
        data=tmp_path / "data", bundle="digits", out=tmp_path / "tokens", shard_images=4, threads=1
    )


@pytest.fixture
def expected(bundle):
    """Tokens of image and mirror image, one after the other [38, 16], and their labels."""
    chosen = [i for i in range(20) if i != 7]
    images = bundle.reals.images[chosen].float() / 255
    ids = torch.stack([bundle.tokenizer.encode(x) for x in (images, images.flip(-1))], dim=1)
    return ids.flatten(0, 1), torch.tensor([i // 2 for i in chosen]).repeat_interleave(2)


def test_rows_are_the_tokenizers_and_stay_on_the_disk(arguments, expected):
    cache = fill(arguments)
    ids, labels = expected
    assert len(cache.ids) == 38 and cache.unreadable == ()
    assert torch.equal(cache.ids[torch.arange(38)], ids)
    assert torch.equal(cache.ids[torch.tensor([37, 0, 37])], ids[[37, 0, 37]])
    assert torch.equal(cache.labels, labels)
    assert all(isinstance(shard, np.memmap) for shard in cache.ids._shards)
    assert {shard.dtype for shard in cache.ids._shards} == {np.dtype(np.int16)}
    assert [len(shard) for shard in cache.ids._shards] == [4, 4, 4, 4, 3]


def test_without_flips_there_is_a_row_for_each_image(arguments, expected):

    cache = fill(replace(arguments, flips=False))
    assert torch.equal(cache.ids[torch.arange(19)], expected[0][::2])
    assert torch.equal(cache.labels, expected[1][::2])


def test_an_interrupted_one_goes_on_and_computes_nothing_twice(arguments, expected, monkeypatch):
    whole = pretrain.tokens.fill.streamed
    read: list[int] = []

    def until(stop):
        def interrupted(paths, numbers, *rest):
            if numbers[0] == stop:
                raise KeyboardInterrupt
            read.extend(numbers)
            return whole(paths, numbers, *rest)

        monkeypatch.setattr(pretrain.tokens.fill, "streamed", interrupted)

    until(8)
    with pytest.raises(KeyboardInterrupt):
        fill(arguments)
    with pytest.raises(ValueError, match=r"^tokens: .* is not complete; the same nat-pretrain"):
        TokenCache.load(arguments.out)
    until(None)
    cache = fill(arguments)
    assert read == list(range(19))
    assert torch.equal(cache.ids[torch.arange(38)], expected[0])
    fill(arguments)
    assert len(read) == 19


def test_another_tokenizer_other_files_and_another_crop_are_refused(arguments, bundle, tmp_path):

    fill(arguments)
    before = {path.name: path.read_bytes() for path in arguments.out.iterdir()}
    other = copy.deepcopy(bundle.tokenizer)
    with torch.no_grad():
        other.codebook[:] = other.codebook.roll(1, dims=0)
    save_bundle(
        tmp_path / "other", name="other", conditions=bundle.conditions,
        transformer=bundle.nat.transformer, tokenizer=other,
    )  # fmt: skip
    assert tokenizer_fingerprint(tmp_path / "other") != tokenizer_fingerprint("digits")
    with pytest.raises(ValueError, match=r"^out: .*made with tokenizer = "):
        fill(replace(arguments, bundle=str(tmp_path / "other")))
    with pytest.raises(ValueError, match=r"^tokens: .*made with tokenizer = "):
        TokenCache.load(arguments.out, tokenizer=tokenizer_fingerprint(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"^out: .*made with crop = 'lanczos'"):
        fill(replace(arguments, crop="adm"))
    (arguments.data / "0" / "0.png").rename(arguments.data / "0" / "2.png")
    with pytest.raises(ValueError, match=r"^out: .*made with files = "):
        fill(arguments)
    assert before == {path.name: path.read_bytes() for path in arguments.out.iterdir()}


@pytest.mark.parametrize("damage", ["changed", "cut off", "gone"])
def test_damage_is_named_and_can_be_mended(arguments, expected, damage):
    fill(arguments)
    path = arguments.out / "tokens_00002.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data if damage == "changed" else data[:-3])
    for use in (lambda: TokenCache.load(arguments.out), lambda: fill(arguments)):
        with pytest.raises(ValueError, match=r"^tokens: .*tokens_00002.npy is missing or damaged"):
            use()
    path.unlink(missing_ok=True)
    (arguments.out / "complete.json").unlink()
    assert torch.equal(fill(arguments).ids[torch.arange(38)], expected[0])


def test_an_image_that_cannot_be_read_is_left_out_and_named(arguments, expected):
    broken = arguments.data / "2" / "1.png"  # number 5
    broken.write_bytes(b"no image")
    cache = fill(arguments)
    assert cache.unreadable == (str(broken),)
    kept = [row for row in range(38) if row // 2 != 5]
    assert torch.equal(cache.ids[torch.arange(36)], expected[0][kept])
    assert torch.equal(cache.labels, expected[1][kept])


def test_a_folder_of_damaged_images_is_refused(arguments):
    for path in arguments.data.rglob("1.png"):
        path.write_bytes(b"no image")
    for path in arguments.data.glob("[0-2]/0.png"):
        path.write_bytes(b"no image")

    with pytest.raises(ValueError, match=r"^data: 12 images up to number 18 cannot be read"):
        fill(replace(arguments, shard_images=100))
    assert not (arguments.out / "complete.json").exists()


def test_a_transformer_trains_on_the_cache_as_on_a_tensor(arguments, expected, tmp_path):
    cache, (ids, labels) = fill(arguments), expected
    config = UViTConfig(
        codebook_size=64, grid=(4, 4), num_classes=10, hidden_size=8, depth=3, num_heads=2
    )
    training = TransformerTraining(loop=LoopConfig(epochs=1, batch_size=8, warmup_steps=1))
    weights = [
        train_transformer(rows, classes, config, training, tmp_path / name, 0).state_dict()
        for name, rows, classes in (("a", cache.ids, cache.labels), ("b", ids, labels))
    ]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name])
