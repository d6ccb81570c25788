"""Real images as a discriminator draws them: of the bundle or a folder, kept or read on the way."""

import dataclasses

import pytest
import torch
from PIL import Image

import nat_env.bundles.discriminator_reals
from nat_env import load_bundle
from nat_env.bundles.discriminator_reals import discriminator_reals
from nat_env.bundles.reals import FolderReals, ReconstructedReals
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.discriminator_config import DiscriminatorConfig


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


def assert_reconstructed(got, images, tokenizer):
    """Bytes of decode(encode(images)), but for codes that are equally near."""
    expected = (tokenizer.decode(tokenizer.encode(images.float() / 255)) * 255).round()
    assert got.dtype == torch.uint8
    assert got.shape == images.shape
    difference = (got.float() - expected).abs().flatten(1).amax(dim=1)
    assert (difference <= 1).float().mean() > 0.995
    assert (got != images).float().mean() > 0.3


def test_reals_of_the_bundle(bundle):
    assert discriminator_reals(bundle, "raw") is bundle.reals
    found = discriminator_reals(bundle, "reconstructed")
    assert_reconstructed(found.images, bundle.reals.images, bundle.tokenizer)
    assert torch.equal(found.conditions, bundle.reals.conditions)
    with pytest.raises(ValueError, match=r"^reals: got 'fake'"):
        discriminator_reals(bundle, "fake")


def save_images(folder, images, mode="L"):
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        Image.fromarray(image[0].numpy()).convert(mode).save(folder / f"{index:02}.png")


def test_reals_of_a_folder(bundle, tmp_path):
    """One sub-folder per class; grey whatever the files are, at the bundle's size."""
    chosen = bundle.reals.images[:12]
    save_images(tmp_path / "7", chosen[:8])
    save_images(tmp_path / "2", chosen[8:], "RGB")
    (tmp_path / "2" / "readme.txt").write_text("not looked at")
    (tmp_path / "readme.txt").write_text("not looked at")
    expected = torch.cat([chosen[8:], chosen[:8]])  # folders in order of their names
    found = discriminator_reals(bundle, "raw", tmp_path)
    assert torch.equal(found.images, expected)
    assert found.conditions.dtype == torch.int64
    assert found.conditions.tolist() == [2] * 4 + [7] * 8
    found = discriminator_reals(bundle, "reconstructed", tmp_path)
    assert_reconstructed(found.images, expected, bundle.tokenizer)
    assert found.conditions.tolist() == [2] * 4 + [7] * 8


def test_images_of_a_folder_are_resized(bundle, tmp_path):
    save_images(tmp_path / "0", torch.full((2, 1, 31, 17), 99).byte())
    found = discriminator_reals(bundle, "raw", tmp_path)
    assert torch.equal(found.images, torch.full((2, 1, 8, 8), 99).byte())


@pytest.mark.parametrize("reals", ["raw", "reconstructed"])
def test_a_folder_too_large_for_memory_gives_the_same_images_one_by_one(
    bundle, tmp_path, monkeypatch, reals
):
    save_images(tmp_path / "7", bundle.reals.images[:8])
    save_images(tmp_path / "2", bundle.reals.images[8:20])
    kept = discriminator_reals(bundle, reals, tmp_path)
    monkeypatch.setattr(nat_env.bundles.discriminator_reals, "KEPT_BYTES", 20 * 64 - 1)
    streamed = discriminator_reals(bundle, reals, tmp_path)
    assert isinstance(streamed, FolderReals if reals == "raw" else ReconstructedReals)
    assert torch.equal(streamed.conditions, kept.conditions)
    assert streamed.image_shape == kept.image_shape == (1, 8, 8)
    chosen = [torch.tensor([3, 19, 3]), torch.tensor([0])]
    for one, other in zip(streamed.batches(chosen), kept.batches(chosen), strict=True):
        torch.testing.assert_close(one, other, atol=0.51 / 255, rtol=0)  # kept ones are bytes
    if reals == "reconstructed":
        return
    config = DiscriminatorConfig(widths=(8,), batch_size=16)
    fakes = torch.rand(16, 1, 8, 8), torch.arange(16) % 10
    losses = [
        AdversarialRewardModel(real, 10, config).update(*fakes, num_updates=3)["loss"]
        for real in (kept, streamed)
    ]
    assert losses[0] == losses[1]


def test_a_bundle_without_reals_says_what_to_do(bundle):
    bare = dataclasses.replace(bundle, reals=None)
    with pytest.raises(ValueError, match=r"^bundle: 'digits' has no reals: .*real_folder"):
        discriminator_reals(bare)


@pytest.mark.parametrize("kind", ["absent", "file", "empty", "no class", "no image", "truncated"])
@pytest.mark.parametrize("reals", ["raw", "reconstructed"])
def test_folders_that_do_not_fit_are_refused(bundle, tmp_path, kind, reals):
    folder = tmp_path / "images"
    if kind != "absent":
        save_images(folder / "3", bundle.reals.images[:2])
        discriminator_reals(bundle, reals, folder)
    if kind == "file":
        folder = folder / "3" / "00.png"
    elif kind == "empty":
        for path in (folder / "3").iterdir():
            path.unlink()
    elif kind == "no class":
        (folder / "10").mkdir()
    elif kind == "no image":
        (folder / "3" / "02.png").write_text("text")
    elif kind == "truncated":
        data = (folder / "3" / "01.png").read_bytes()
        (folder / "3" / "01.png").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ValueError, match=r"^folder: .*images"):
        discriminator_reals(bundle, reals, folder)
