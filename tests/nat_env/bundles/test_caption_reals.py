"""Real images with captions, from each of the forms in which they come."""

import base64
import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from nat_env.bundles.caption_reals import CaptionFile, caption_reals
from nat_env.bundles.discriminator_reals import discriminator_reals
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.reals import ReconstructedReals
from nat_env.images.image_folder import read_images
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.discriminator_config import DiscriminatorConfig

CAPTIONS = ["ccc d", "a bb", "ccc d", "a bb", "ccc d", "ccc d"]


@pytest.fixture
def bundle(text_folder):
    return load_bundle(text_folder)


def grey(number):
    """Of image `number` every pixel."""
    return 40 * number + 10


def png(number):
    file = io.BytesIO()
    Image.fromarray(np.full((6, 8), grey(number), np.uint8)).save(file, format="PNG")
    return file.getvalue()


def write_coco(folder, captions, images):
    (folder / "annotations").mkdir(parents=True)
    (folder / "val2017").mkdir()
    for number, data in enumerate(images):
        (folder / "val2017" / f"{number:03}.png").write_bytes(data)
    found = {
        "images": [{"id": 9 - n, "file_name": f"{n:03}.png"} for n in range(len(images))],
        "annotations": [{"image_id": 9 - n, "caption": c} for n, c in enumerate(captions)],
    }
    (folder / "annotations" / "captions_val2017.json").write_text(json.dumps(found))
    return folder


def write_tsv(folder, captions, images):
    folder.mkdir()
    lines = [
        f"{caption}\t{base64.b64encode(data).decode()}\r\n"
        for caption, data in zip(captions, images, strict=True)
    ]
    (folder / "cc3m.tsv").write_bytes("".join(lines).encode())
    return folder / "cc3m.tsv"


def write_shards(folder, captions, images):
    folder.mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as tar:
            for number in range(shard, len(images), 2):
                parts = {"txt": captions[number].encode(), "png": images[number], "json": b"{}"}
                for kind, data in parts.items():
                    member = tarfile.TarInfo(f"{number:08}.{kind}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return folder


FORMS = {"coco": write_coco, "tsv": write_tsv, "shards": write_shards}


@pytest.fixture(params=FORMS)
def write(request, tmp_path):
    form = FORMS[request.param]
    return lambda captions, images: form(tmp_path / "reals", captions, images)


def seen(reals):
    """By number: the grey of an image and its condition."""
    numbers = torch.arange(len(reals.conditions)).split(4)
    images = torch.cat(list(reals.batches(numbers)))
    assert images.shape[1:] == reals.image_shape == (1, 4, 4)
    assert images.dtype == torch.float32
    return [
        (round(float(image.mean()) * 255), int(condition))
        for image, condition in zip(images, reals.conditions, strict=True)
    ]


def test_images_come_with_the_rows_of_their_captions(bundle, write):
    path = write(CAPTIONS, [png(n) for n in range(6)])
    reals = caption_reals(path, bundle)
    expected = [(grey(n), {"a bb": 0, "ccc d": 1}[CAPTIONS[n]]) for n in range(6)]
    assert sorted(seen(reals)) == sorted(expected)
    (few,) = reals.batches([torch.tensor([3, 0])])
    assert few.shape == (2, 1, 4, 4)


def test_captions_that_are_no_prompts_are_left_out_with_one_warning(bundle, write):
    captions = ["ccc d", "other", "a bb", "a cat", "ccc d", "a bb"]
    path = write(captions, [png(n) for n in range(6)])
    with pytest.warns(UserWarning, match=r"^real_folder: 2 of 6 images of .*'other'") as told:
        reals = caption_reals(path, bundle)
    assert len(told) == 1
    assert sorted(grey_ for grey_, _ in seen(reals)) == [grey(n) for n in (0, 2, 4, 5)]
    with pytest.raises(ValueError, match=r"^real_folder: 6 of 6 images"):
        caption_reals(path, bundle.with_prompts(["b"], replace=True))


def test_another_pair_stands_in_for_an_image_that_cannot_be_read(bundle, write):
    images = [png(n) for n in range(6)]
    images[1] = images[1][:40]
    path = write(["ccc d", "a bb", "ccc d", "a bb", "a bb", "ccc d"], images)
    reals = caption_reals(path, bundle)
    captions = reals.conditions.clone()
    with pytest.warns(
        UserWarning, match=r"^real_folder: .* cannot be read; the next .*1 so far of 6"
    ) as told:
        found = seen(reals)
    assert len(told) == 1
    (broken,) = reals.unreadable
    assert found[broken] == found[(broken + 1) % 6]
    others = [number for number in range(6) if number != broken]
    assert sorted(found[n][0] for n in others) == [grey(n) for n in (0, 2, 3, 4, 5)]
    assert torch.equal(reals.conditions[others], captions[others])
    assert seen(reals) == found  # without another warning


def test_where_half_of_the_images_cannot_be_read_all_are_refused(bundle, write):
    path = write(CAPTIONS, [png(n)[: 1000 * (n % 2) or 9] for n in range(6)])
    with pytest.raises(ValueError, match=r"^real_folder: 3 of 6 images that were tried .*reals"):
        caption_reals(path, bundle)


def test_too_many_in_a_row_end_the_training(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("nat_env.bundles.reals._MOST_UNREADABLE", 2)
    path = write_tsv(
        tmp_path / "reals", CAPTIONS, [png(n)[: 1000 * (n > 1) or 9] for n in range(6)]
    )
    reals = caption_reals(path, bundle)
    with (
        pytest.warns(UserWarning, match="so far of 6"),
        pytest.raises(ValueError, match=r"cc3m.tsv at byte 6 .* nor can the 1 images after it"),
    ):
        list(reals.batches([torch.tensor([0])]))
    (image,) = reals.batches([torch.tensor([1])])
    assert round(float(image.mean()) * 255) == grey(2)
    assert reals.conditions.tolist() == [1, 1, 1, 0, 1, 1]


def test_an_image_of_many_captions_is_one_that_cannot_be_read(bundle, tmp_path, monkeypatch):
    """COCO has five captions of each: they follow one another, and are all tried at once."""
    monkeypatch.setattr("nat_env.bundles.reals._MOST_UNREADABLE", 2)
    captions = ["ccc d", "ccc d", "ccc d", "a bb", "a bb", "ccc d", "ccc d"]
    folder = write_coco(tmp_path / "reals", captions, [png(n) for n in range(7)])
    about = folder / "annotations" / "captions_val2017.json"
    found = json.loads(about.read_text())
    for annotation in found["annotations"][:3]:
        annotation["image_id"] = 9
    about.write_text(json.dumps(found))
    reals = caption_reals(folder, bundle)
    (folder / "val2017" / "000.png").write_bytes(b"damaged meanwhile")
    with pytest.warns(UserWarning, match="1 so far of 7"):
        (image,) = reals.batches([torch.tensor([0])])
    assert round(float(image.mean()) * 255) == grey(3)
    assert reals.conditions.tolist() == [0, 1, 1, 0, 0, 1, 1]
    (folder / "val2017" / "000.png").write_bytes(png(0))
    (image,) = reals.batches([torch.tensor([0])])  # its condition is the other's: so is the image
    assert round(float(image.mean()) * 255) == grey(3)


@pytest.mark.parametrize("crop", ["lanczos", "adm"])
def test_images_are_cropped_as_those_of_folders(bundle, write, tmp_path, crop):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12), np.uint8)
    single = tmp_path / "single.png"
    Image.fromarray(pixels).save(single)
    path = write(["a bb", "ccc d"], [single.read_bytes()] * 2)
    (image,) = discriminator_reals(bundle, "raw", path, crop).batches([torch.tensor([0])])
    assert torch.equal((image * 255).round().byte(), read_images([single], (4, 4), 1, crop))


def test_another_crop_is_refused_before_anything_is_read(bundle, tmp_path):
    with pytest.raises(ValueError, match=r"^crop: got 'middle'"):
        discriminator_reals(bundle, "raw", tmp_path / "nowhere", "middle")


def test_a_discriminator_learns_from_them(bundle, write):
    path = write(CAPTIONS, [png(n) for n in range(6)])
    reals = discriminator_reals(bundle, "raw", path)
    config = DiscriminatorConfig(widths=(8,), batch_size=4)
    model = AdversarialRewardModel(reals, 2, config, pooled=bundle.conditions.pooled)
    assert model.update(torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 0, 1]))["loss"] > 0
    through = discriminator_reals(bundle, "reconstructed", path)
    assert isinstance(through, ReconstructedReals)
    (image,) = through.batches([torch.tensor([0])])
    assert set((image * 3).unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}


def test_images_are_read_as_they_are_drawn(bundle, write, monkeypatch):
    path = write(CAPTIONS, [png(n) for n in range(6)])
    reals = caption_reals(path, bundle)
    read = []
    original = CaptionFile.read_bytes
    monkeypatch.setattr(CaptionFile, "read_bytes", lambda self: read.append(self) or original(self))
    list(reals.batches([torch.tensor([4, 2])]))
    assert read == [reals.files[4], reals.files[2]]


def test_what_holds_no_captions_is_refused(bundle, tmp_path):
    with pytest.raises(ValueError, match=r"^real_folder: .* has 0 files captions\*.json"):
        caption_reals(tmp_path / "nowhere", bundle)
    with pytest.raises(ValueError, match=r"^real_folder: .*nowhere.tsv' is not there"):
        caption_reals(tmp_path / "nowhere.tsv", bundle)
    (tmp_path / "a.tsv").write_text("a bb\thttps://a/b.jpg\n")
    with pytest.raises(ValueError, match=r"^real_folder: line 1 of .*a.tsv' has an address"):
        caption_reals(tmp_path / "a.tsv", bundle)
    (tmp_path / "b.tsv").write_text("a bb\n")
    with pytest.raises(ValueError, match=r"^real_folder: .*b.tsv' holds no images with captions"):
        caption_reals(tmp_path / "b.tsv", bundle)
    (tmp_path / "c.tsv").write_bytes(b"a bb\tAAAA\ncaf\xe9\tAAAA\n")
    with pytest.raises(ValueError, match=r"line 2 of .*c.tsv' is not UTF-8"):
        caption_reals(tmp_path / "c.tsv", bundle)
    shards = write_shards(tmp_path / "shards", CAPTIONS, [png(n) for n in range(6)])
    data = (shards / "00001.tar").read_bytes()
    (shards / "00001.tar").write_bytes(data[:2500])
    with pytest.raises(ValueError, match=r"^real_folder: .*00001.tar' is no tar .* cut short"):
        caption_reals(shards, bundle)
    coco = write_coco(tmp_path / "coco", CAPTIONS, [png(n) for n in range(6)])
    (coco / "val2017").rename(coco / "pictures")
    with pytest.raises(ValueError, match=r"^real_folder: .* tells of '000.png', which is in none"):
        caption_reals(coco, bundle)
    (coco / "captions_train.json").write_text("{}")
    with pytest.raises(ValueError, match=r"^real_folder: .* has 2 files captions"):
        caption_reals(coco, bundle)
