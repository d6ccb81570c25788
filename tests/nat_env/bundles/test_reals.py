"""Real images as a discriminator draws them: of the bundle or a folder, kept or read on the way."""

import dataclasses
import shutil

import pytest
import torch
from PIL import Image

import nat_env.bundles.discriminator_reals
from nat_env import load_bundle
from nat_env.bundles.discriminator_reals import discriminator_reals
from nat_env.bundles.reals import FileReals, ReconstructedReals, TensorReals
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


@pytest.fixture
def ten(bundle, tmp_path):
    """A folder with three images of each class but for two of the 4; and all of them in order."""
    images = bundle.reals.images[:30]
    for label in range(10):
        save_images(tmp_path / str(label), images[3 * label : 3 * label + 3 - (label == 4)])
    return tmp_path, torch.cat([images[:14], images[15:]])


def test_reals_of_a_folder(bundle, ten):
    """One sub-folder per class; grey whatever the files are, at the bundle's size."""
    folder, images = ten
    Image.open(folder / "2" / "00.png").convert("RGB").save(folder / "2" / "00.png")
    (folder / "2" / "readme.txt").write_text("not looked at")
    (folder / "readme.txt").write_text("not looked at")
    labels = [n for n in range(10) for _ in range(3 - (n == 4))]
    found = discriminator_reals(bundle, "raw", folder)
    assert torch.equal(found.images, images)
    assert found.conditions.dtype == torch.int64
    assert found.conditions.tolist() == labels
    found = discriminator_reals(bundle, "reconstructed", folder)
    assert_reconstructed(found.images, images, bundle.tokenizer)
    assert found.conditions.tolist() == labels


def test_images_of_a_folder_are_resized(bundle, ten):
    folder, images = ten
    Image.new("L", (31, 17), 99).save(folder / "0" / "00.png")
    found = discriminator_reals(bundle, "raw", folder)
    assert torch.equal(found.images[0], torch.full((1, 8, 8), 99).byte())
    assert torch.equal(found.images[1:], images[1:])


@pytest.mark.parametrize("reals", ["raw", "reconstructed"])
def test_a_folder_too_large_for_memory_gives_the_same_images_one_by_one(
    bundle, ten, monkeypatch, reals
):
    folder, images = ten
    kept = discriminator_reals(bundle, reals, folder)
    monkeypatch.setattr(nat_env.bundles.discriminator_reals, "KEPT_BYTES", len(images) * 64 - 1)
    streamed = discriminator_reals(bundle, reals, folder)
    assert isinstance(streamed, FileReals if reals == "raw" else ReconstructedReals)
    assert torch.equal(streamed.conditions, kept.conditions)
    assert streamed.image_shape == kept.image_shape == (1, 8, 8)
    chosen = [torch.tensor([3, 19, 3]), torch.tensor([0])]
    before = torch.get_rng_state()
    for one, other in zip(streamed.batches(chosen), kept.batches(chosen), strict=True):
        torch.testing.assert_close(one, other, atol=0.51 / 255, rtol=0)  # kept ones are bytes
    assert torch.equal(torch.get_rng_state(), before)
    if reals == "reconstructed":
        return
    config = DiscriminatorConfig(widths=(8,), batch_size=16)
    fakes = torch.rand(16, 1, 8, 8), torch.arange(16) % 10
    losses = [
        AdversarialRewardModel(real, 10, config).update(*fakes, num_updates=3)["loss"]
        for real in (kept, streamed)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("missing", [[4], [0, 2, 3, 5, 6, 7, 8, 9]])
@pytest.mark.parametrize("way", ["folder", "large folder", "bundle", "own"])
def test_conditions_without_real_images_are_refused_by_name(bundle, ten, monkeypatch, missing, way):
    named = ", ".join(f"'{label}'" for label in missing)
    message = rf"got no images of {named}, allowed are images of every one of the 10 conditions$"
    kept = ~torch.isin(bundle.reals.conditions, torch.tensor(missing))
    reals = TensorReals(bundle.reals.images[kept], bundle.reals.conditions[kept])
    folder, _ = ten
    for label in missing:
        shutil.rmtree(folder / str(label))
    if way == "large folder":
        monkeypatch.setattr(nat_env.bundles.discriminator_reals, "KEPT_BYTES", 0)
    if way == "own":
        config = DiscriminatorConfig(widths=(8,), batch_size=16)
        model = AdversarialRewardModel(reals, 10, config)
        env = nat_env.NATDecodeVectorEnv(2, bundle, 1)
        with pytest.raises(ValueError, match=r"^model: its reals: " + message):
            nat_env.AdversarialReward(env, model)
        return
    incomplete = dataclasses.replace(bundle, reals=reals)
    given = (incomplete, "raw") if way == "bundle" else (bundle, "raw", folder)
    start = r"^reals of bundle 'digits': " if way == "bundle" else r"^folder: '.*': "
    with pytest.raises(ValueError, match=start + message):
        discriminator_reals(*given)


def test_pixels_out_of_range_are_refused(bundle):
    images = bundle.reals.images[:4].float() / 255
    for wrong, shown in ((images - 0.5, "-0.5 .. 0.5"), (images * 255, "0.0 .. 255.0")):
        with pytest.raises(ValueError, match=rf"^reals: got images of {shown}, allowed are 0 .. 1"):
            TensorReals(wrong, torch.arange(4))
    with pytest.raises(ValueError, match=r"^reals: got images of nan"):
        TensorReals(images.where(images > 0.5, torch.nan), torch.arange(4))


def test_a_bundle_without_reals_says_what_to_do(bundle):
    bare = dataclasses.replace(bundle, reals=None)
    with pytest.raises(ValueError, match=r"^bundle: 'digits' has no reals: .*real_folder"):
        discriminator_reals(bare)


@pytest.mark.parametrize("kind", ["absent", "file", "empty", "no class", "no image", "truncated"])
@pytest.mark.parametrize("reals", ["raw", "reconstructed"])
def test_folders_that_do_not_fit_are_refused(bundle, ten, kind, reals):
    folder, _ = ten
    discriminator_reals(bundle, reals, folder)
    if kind == "absent":
        folder = folder / "images"
    elif kind == "file":
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


@pytest.fixture
def streamed_ten(bundle, ten, monkeypatch):
    """Of `ten`, nothing kept; the files of class 2, numbers 6 to 8, are at hand."""
    folder, images = ten
    monkeypatch.setattr(nat_env.bundles.discriminator_reals, "KEPT_BYTES", 0)
    return discriminator_reals(bundle, "raw", folder), images, folder


def test_an_image_that_cannot_be_read_is_replaced_by_the_next_of_its_class(streamed_ten):
    reals, images, folder = streamed_ten
    (folder / "2" / "02.png").write_bytes(b"damaged meanwhile")
    chosen = [torch.tensor([8, 0]), torch.tensor([8])]
    with pytest.warns(UserWarning) as told:
        found = list(reals.batches(chosen))
    (message,) = [str(warning.message) for warning in told]  # once, however often it is drawn
    assert message.startswith(f"folder: {folder / '2' / '02.png'} (")
    assert "1 so far of 29" in message
    torch.testing.assert_close(torch.cat(found), images[[6, 0, 6]].float() / 255)
    assert list(reals.unreadable) == [8]


def test_a_class_of_which_none_can_be_read_is_an_error_that_names_a_file(streamed_ten):
    reals, _, folder = streamed_ten
    for path in (folder / "2").iterdir():
        path.unlink()
    message = r"^folder: .*/2/01.png.* nor can the 2 images of its class"
    with (
        pytest.warns(UserWarning, match="cannot be read"),
        pytest.raises(ValueError, match=message),
    ):
        list(reals.batches([torch.tensor([7])]))


def test_batches_hold_no_more_than_themselves_and_what_is_read_ahead(streamed_ten, monkeypatch):
    reals, images, _ = streamed_ten
    monkeypatch.setattr("nat_env.images.streaming._AT_ONCE", 2)
    monkeypatch.setattr("nat_env.images.streaming._WORKERS", 0)
    taken: list[int] = []
    from nat_env.bundles import reals as module

    def counted(*given):
        for piece in module_streamed(*given):
            taken.append(len(piece.numbers))
            yield piece

    module_streamed = module.streamed
    monkeypatch.setattr(module, "streamed", counted)
    chosen = [torch.arange(3), torch.arange(3, 8), torch.arange(8, 11)]
    read = []
    for batch, numbers in zip(reals.batches(chosen), chosen, strict=True):
        torch.testing.assert_close(batch, images[numbers].float() / 255)
        read.append(sum(taken))
    assert read == [4, 8, 11]  # 3, 8, 11 in pieces of two


def test_imagenets_folders_stand_for_the_classes_in_their_order(bundle, tmp_path):
    for label in range(10):
        save_images(tmp_path / f"n{10 * label + 1440764:08}", bundle.reals.images[[label]])
    found = discriminator_reals(bundle, "raw", tmp_path)
    assert found.conditions.tolist() == list(range(10))
    (tmp_path / "n00000001").mkdir()
    save_images(tmp_path / "n00000002", bundle.reals.images[:1])
    shutil.rmtree(tmp_path / "n00000001")
    with pytest.raises(ValueError, match=r"^folder: .* no class of bundle 'digits'"):
        discriminator_reals(bundle, "raw", tmp_path)
