"""Which folder is meant, and that looking into it opens nothing."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nat_env.images.image_folder import find_images, read_images


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (["train/cat/0.png", "train/dog/0.png"], "train"),
        (["train/cat/0.png", "val/cat/0.png"], "train"),
        (["Train/0.png", "Val/0.png"], "Train"),
        (["test/0.png", "train/cat/0.png", "val/0.png"], "train"),
        (["test/0.png", "val/0.png"], "test"),
        (["images/train/cat/0.png", "labels/0.png"], None),
        (["ILSVRC/cat/0.png"], "ILSVRC"),
    ],
)
def test_the_folder_above_is_refused_and_the_right_one_named(tmp_path, names, meant):
    touch(tmp_path, *names)
    expected = f"is '{tmp_path / meant}' the folder that is meant?" if meant else "holds no images"
    with pytest.raises(ValueError, match="^folder: .*" + re.escape(expected)):
        find_images(tmp_path)


def test_classes_may_be_called_as_parts_are_among_others(tmp_path):
    touch(tmp_path, "train/0.png", "bus/0.png", "bus/1.png")
    found = find_images(tmp_path)
    assert found.counts == {"bus": 2, "train": 1}
    assert found.classes.tolist() == [0, 0, 1]
    assert list(found.files["train"]) == [tmp_path / "train" / "0.png"]


def test_no_file_is_asked_about(tmp_path, monkeypatch):
    """On a network's disk each question takes as long as a folder's listing."""
    touch(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(5)))
    asked: list[str] = []
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **_: asked.append(str(self)) or stat(self))
    assert find_images(tmp_path).counts == {"a": 5, "b": 5}
    assert [name for name in asked if name.endswith(".png")] == []


def test_adms_crop_halves_by_mean_then_resizes_then_crops(tmp_path):
    """40 x 24 to 8: halved once, by means of 2 x 2, to 20 x 12; then 13 x 8, then 8 in the middle.

    The steps are those of ADM's `center_crop_arr`, computed apart.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    means = np.floor(pixels.reshape(24, 20, 2, 3).mean(axis=2) + 0.5)  # rounded after each axis
    means = np.floor(means.reshape(12, 2, 20, 3).mean(axis=1) + 0.5)
    halved = Image.fromarray(means.astype(np.uint8))
    small = np.asarray(halved.resize((13, 8), Image.Resampling.BICUBIC))
    expected = small[:, 2:10].transpose(2, 0, 1)  # (13 - 8) // 2 = 2
    found = read_images([tmp_path / "0.png"], (8, 8), 3, "adm")[0].numpy()
    np.testing.assert_array_equal(found, expected)
    other = read_images([tmp_path / "0.png"], (8, 8), 3)[0].numpy()
    assert (other != expected).any()


def test_a_small_image_is_enlarged_and_a_fitting_one_left_alone(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    Image.new("RGB", (3, 5), (7, 8, 9)).save(tmp_path / "1.png")
    found = read_images([tmp_path / f"{i}.png" for i in (0, 1)], (8, 8), 3, "adm").numpy()
    np.testing.assert_array_equal(found[0].transpose(1, 2, 0), pixels)
    np.testing.assert_array_equal(found[1], np.broadcast_to([[[7]], [[8]], [[9]]], (3, 8, 8)))


@pytest.mark.parametrize(("crop", "size"), [("middle", (8, 8)), ("adm", (8, 9))])
def test_crops_that_there_are_not_are_refused_before_any_reading(crop, size):
    with pytest.raises(ValueError, match=rf"^crop: got '{crop}'.*allowed are"):
        read_images([Path("/nowhere")], size, 3, crop)
