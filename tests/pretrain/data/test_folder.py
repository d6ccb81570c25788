"""A folder of one's own images: what is found, read, refused, split, and made a bundle of."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pretrain.make
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.statistics import balanced_statistics
from nat_env.commands import entry
from nat_env.images.image_folder import find_images, read_images
from nat_env.models.classifier import embeddings_of
from nat_env.models.pixels import to_float
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from pretrain.arguments import Folder
from pretrain.config import PRESETS, folder_config
from pretrain.data.folder import folder_images
from pretrain.parallel.execution import Execution
from pretrain.run import prepared
from pretrain.verdict import verdict

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def noise(seed, height=9, width=7, channels=3):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels))
    return pixels.astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Three classes of 60, 70 and 80 small colour images, and files that are none."""
    root = tmp_path / "my images"
    for label, name in enumerate(("b", "a", "Ünï c")):
        (root / name).mkdir(parents=True)
        for index in range(60 + 10 * label):
            image = Image.fromarray(noise(1000 * label + index))
            image.save(root / name / f"{index:02}.{('png', 'PNG', 'bmp')[index % 3]}")
    for name in ("README.md", ".DS_Store", "a/notes.txt", "a/._00.png", "top.png"):
        (root / name).write_text("not an image")
    for name in (".git", "b/deeper"):
        (root / name).mkdir()
    return root


# Which images there are


def test_images_are_found_by_class_and_the_rest_is_counted(folder):
    found = find_images(folder)
    assert list(found.files) == ["a", "b", "Ünï c"]
    assert [len(paths) for paths in found.files.values()] == [70, 60, 80]
    assert [path.name for path in found.files["b"][:3]] == ["00.png", "01.PNG", "02.bmp"]
    ignored = {str(path.relative_to(folder)) for path in found.ignored}
    assert ignored == {
        "README.md", ".DS_Store", "top.png", ".git", "a/notes.txt", "a/._00.png", "b/deeper"
    }  # fmt: skip
    assert "210 images, 3 classes of 60 to 80 images; ignored 7 other files" in str(found)
    assert str(found).endswith(" and 2 more")


def refusals():
    def nested(root):
        (root / "train").mkdir()
        (root / "a").rename(root / "train" / "a")

    def truncated(root):
        for name in ("00.png", "04.PNG"):
            data = (root / "a" / name).read_bytes()
            (root / "a" / name).write_bytes(data[: len(data) * 2 // 3])

    def few(root, name, kept):
        for path in find_images(root).files[name][kept:]:
            path.unlink()

    return {
        "absent": (lambda root: root.rename(root.parent / "x"), r"my images' is not a folder"),
        "flat": (
            lambda root: [p.rename(root.parent / p.name) for p in root.iterdir() if p.is_dir()],
            r"my images' has no sub-folders; put the images of each class into",
        ),
        "empty class": (
            lambda root: (root / "z").mkdir(),
            r"my images/z' holds no images; put some into it, or remove it",
        ),
        "one level too high": (nested, r"is '.*my images/train' the folder that is meant\?"),
        "truncated": (
            truncated,
            r"2 of 210 images cannot be read; repair or remove .*a/00.png.*a/04.PNG",
        ),
        "text": (
            lambda root: (root / "b" / "x.jpg").write_text("text"),
            r"1 of 211 images cannot be read; .*b/x.jpg",
        ),
        "nothing in it": (
            lambda root: (root / "b" / "x.gif").touch(),
            r"1 of 211 images cannot be read; .*b/x.gif",
        ),
        "few of a class": (lambda root: few(root, "b", 9), r"too few images \('b' 9\).*10"),
        "few": (lambda root: few(root, "b", 49), r"holds 199 images, allowed is at least 200"),
        "one class": (
            lambda root: [(root / name).rename(root / f".{name}") for name in ("a", "b")],
            r"has one class, allowed are two or more",
        ),
        "same name": (
            lambda root: (root / "b").rename(root / "A"),
            r"differ in upper and lower case alone; rename",
        ),
        "same name, otherwise composed": (
            lambda root: (root / "b").rename(root / "U\u0308ni\u0308 c"),
            r"differ in upper and lower case alone; rename",
        ),
        "no UTF-8": (
            lambda root: (root / "b").rename(root / "k\udce4tzchen"),
            r"got 'k\\udce4tzchen', allowed are names in UTF-8 without control characters; rename",
        ),
        "two lines": (
            lambda root: (root / "b").rename(root / "b\nc"),
            r"got 'b\\nc', allowed are names in UTF-8 without control characters; rename",
        ),
    }


@pytest.mark.parametrize("what", refusals())
def test_what_is_wrong_is_named(folder, what):
    damage, message = refusals()[what]
    damage(folder)
    with pytest.raises(ValueError, match=rf"^folder: .*{message}"):
        folder_images(find_images(folder), 8)


# Pixels


def read_one(path, size, channels=3):
    return read_images([path], size, channels)[0].permute(1, 2, 0).numpy()


def test_an_image_of_the_right_size_is_left_alone(tmp_path):
    Image.fromarray(noise(0)).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_one(tmp_path / "x.png", (9, 7)), noise(0))


@pytest.mark.parametrize("upright", [False, True])
def test_the_middle_of_an_oblong_image_is_kept(tmp_path, upright):
    """Three squares in a row; where they meet, shrinking looks across as far as 6 pixels."""
    row = [np.full((24, 24, 3), colour, np.uint8) for colour in (RED, GREEN, BLUE)]
    pixels = np.concatenate(row, axis=1)
    Image.fromarray(pixels.swapaxes(0, 1) if upright else pixels).save(tmp_path / "x.png")
    assert (read_one(tmp_path / "x.png", (24, 24)) == GREEN).all()
    assert (read_one(tmp_path / "x.png", (12, 12))[3:9, 3:9] == GREEN).all()


def test_shrinking_is_lanczos(tmp_path):
    """A step of 8 pixels, shrunk by 2: the kernel sin(pi x) sin(pi x / 3) / (pi^2 x^2 / 3)."""
    step = np.repeat([0] * 4 + [255] * 4, 8).reshape(8, 8).T
    Image.fromarray(step.astype(np.uint8)).save(tmp_path / "x.png")
    inputs, outputs = np.arange(8) + 0.5, 2 * np.arange(4) + 1
    distance = (inputs - outputs[:, None]) / 2
    kernel = np.where(abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    expected = (kernel / kernel.sum(axis=1, keepdims=True)) @ step[0]
    row = read_one(tmp_path / "x.png", (4, 4), channels=1)[2, :, 0]
    np.testing.assert_allclose(row, expected.clip(0, 255), atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "P with alpha"])
def test_transparent_pixels_are_white(tmp_path, mode):
    """Half transparent black is grey, whatever colour is hidden behind no opacity."""
    pixels = np.zeros((3, 4, 4), np.uint8)
    pixels[..., 3] = [0, 128, 255, 0]
    pixels[0, 0, :3] = RED if mode == "RGBA" else (7, 7, 7)
    image = Image.fromarray(pixels)
    expected = [255, 127, 0, 255]
    if mode == "LA":
        image = image.convert("LA")
    elif mode == "P":
        image = Image.fromarray(np.tile(np.array([0, 1, 2, 0], np.uint8), (3, 1))).convert("P")
        image.putpalette([9, 9, 9, 127, 127, 127, 0, 0, 0])
        image.info["transparency"] = 0
    elif mode == "P with alpha":
        image = Image.fromarray(np.tile(np.array([0, 1, 2, 0], np.uint8), (3, 1))).convert("P")
        image.putpalette([9, 9, 9, 0, 0, 0, 0, 0, 0])
        image.info["transparency"] = bytes([0, 128, 255])
    image.save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as written:
        assert written.mode == mode.split()[0]
    got = read_one(tmp_path / "x.png", (3, 4))
    np.testing.assert_array_equal(got, np.tile(np.array(expected)[None, :, None], (3, 1, 3)))


def test_formats_and_modes(tmp_path):
    """Sixteen bits are scaled, print colours converted, cameras turned, animations stopped."""
    grey = noise(1, channels=1)[..., 0]
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_one(tmp_path / "deep.png", (9, 7), 1)[..., 0], grey)
    Image.new("CMYK", (7, 9), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    assert abs(read_one(tmp_path / "print.jpg", (9, 7)).astype(int) - RED).max() <= 2
    frames = [Image.new("RGB", (7, 9), colour) for colour in (BLUE, RED)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert (read_one(tmp_path / "moving.gif", (9, 7)) == BLUE).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera's right side was down: turn by a quarter, clockwise
    Image.fromarray(noise(2)).save(tmp_path / "held.png", exif=exif)
    np.testing.assert_array_equal(read_one(tmp_path / "held.png", (7, 9)), np.rot90(noise(2), -1))
    Image.fromarray(np.ones((9, 7), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ValueError, match=r"float.tiff .*mode 'F'; allowed are 8 or 16 bits"):
        read_one(tmp_path / "float.tiff", (9, 7))


def test_few_bits_in_sixteen_are_warned_of(tmp_path):
    """Twelve bits are read as sixteen, a sixteenth as bright; the advice mends it."""
    grey = noise(1, channels=1)[..., 0].astype(np.uint16) * 257  # of 16 bits
    paths = [tmp_path / f"{index}.{kind}" for index, kind in enumerate(("png", "tif", "bmp"))]
    Image.fromarray(grey >> 4).save(paths[0])
    Image.fromarray(grey >> 5).save(paths[1])
    Image.fromarray(noise(2)).save(paths[2])
    message = r"^folder: 2 of 3 images .*no value of more than 12: .* by 16 in .*0\.png, .*1\.tif$"
    with pytest.warns(UserWarning, match=message):
        dark = read_images(paths, (9, 7), 1)
    assert dark[:2].max() < 16
    Image.fromarray((grey >> 4) * 16).save(paths[0])
    bright = read_images(paths, (9, 7), 1)[0, 0]  # beside it, the other may be dark
    np.testing.assert_array_equal(bright, grey >> 8)
    Image.fromarray(grey * 0).save(paths[0])
    read_images(paths[:1], (9, 7), 1)  # black


# The data set


def grey_folder(root):
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for index in range(100):
            image = Image.fromarray(noise(index, 8, 8, 1)[..., 0])
            image.convert("RGB" if index % 2 else "L").save(root / name / f"{index}.png")
    return find_images(root)


def test_grey_unless_an_image_has_colour(tmp_path):
    found = grey_folder(tmp_path)
    data = folder_images(found, 8)
    assert data.train_images.shape == (160, 1, 8, 8)
    assert folder_images(found, 8, channels=3).train_images.shape == (160, 3, 8, 8)
    pixels = noise(0, 8, 8, 1).repeat(3, axis=2)
    pixels[0, 0] = (100, 100, 101)
    Image.fromarray(pixels).save(found.files["b"][50])
    assert folder_images(found, 8).train_images.shape == (160, 3, 8, 8)
    forced = folder_images(found, 8, channels=1)
    assert torch.equal(forced.train_images[:80], data.train_images[:80])


def test_every_image_is_once_in_training_or_testing(folder):
    found = find_images(folder)
    data = folder_images(found, 8)
    assert data.name == "my images"
    assert data.class_names == ("a", "b", "Ünï c")
    assert data.test_labels.bincount().tolist() == [14, 12, 16]  # one of five
    assert data.train_labels.bincount().tolist() == [56, 48, 64]
    for label, name in enumerate(data.class_names):
        expected = read_images(found.files[name], (8, 8), 3)
        parts = [
            data.train_images[data.train_labels == label],
            data.test_images[data.test_labels == label],
        ]
        rows = sorted(map(bytes, torch.cat(parts).flatten(1).numpy()))
        assert rows == sorted(map(bytes, expected.flatten(1).numpy()))
    again = folder_images(find_images(folder), 8, name="other")
    assert torch.equal(again.test_images, data.test_images)
    assert again.name == "other"


# The command


def test_epochs_grow_as_images_get_fewer():
    """The same number of gradient steps from 2,000 images on."""
    steps = []
    for count in (2_000, 5_000, 40_000):
        loop = folder_config(count, 32).tokenizer.loop
        steps.append(loop.epochs * count / loop.batch_size)
    assert steps == pytest.approx([steps[0]] * 3)
    few, preset = folder_config(200, 32), PRESETS["folder"]
    assert few.judge.loop.epochs == 10 * preset.judge.loop.epochs
    assert folder_config(200, 32, 0.1).trunk.loop == preset.trunk.loop
    for size in (32, 48, 64, 96):
        sizes = folder_config(2_000, size).sizes(3, (size, size), 2)
        assert sizes[0].factor == (4 if size <= 48 else 8)
        assert sizes[2].widths[-1] == 64


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--image-size", "30", r"image_size: got \(30, 30\), allowed are multiples .* 4"),
        ("--image-size", "60", r"image_size: got \(60, 60\), allowed are multiples .* 8"),
        ("--image-size", "0", "image_size: got 0, allowed is >= 1"),
        ("--depth", "4", "depth: got 4, allowed are odd numbers"),
        ("--hidden-size", "30", "num_heads: got 4, must divide hidden_size 30"),
        ("--epochs-factor", "0", "epochs_factor: got 0.0, allowed is > 0"),
        ("--epochs-factor", "1e99", r"epochs_factor: got 1e\+99, allowed is > 0 and <= 1000"),
        ("--epochs-factor", "nan", "epochs_factor: got nan, allowed is a finite number"),
        ("--name", "a/b", "name: got 'a/b', allowed is a file's name"),
        ("--name", "..", "name: got '..', allowed is a file's name"),
        ("--name", "a\tb", r"name: got 'a\\tb', allowed are names in UTF-8 without control"),
        ("--device", "gpu", "device: got 'gpu', which torch cannot use"),
    ],
)
def test_options_are_checked_before_any_work(folder, monkeypatch, capsys, option, value, message):
    out = folder.parent / "out"
    arguments = ["folder", "--data", str(folder), "--out", str(out), "--work", str(out / "work")]
    monkeypatch.setattr("sys.argv", ["nat-pretrain", *arguments, option, value])
    monkeypatch.setattr("pretrain.data.folder.read_images", None)
    with pytest.raises(SystemExit) as stopped:
        entry.pretrain()
    assert re.search(message, f"{stopped.value} {capsys.readouterr().err}")
    assert not out.exists()


def pretrain_with(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["nat-pretrain", "folder", *map(str, words)])
    entry.pretrain()


@pytest.mark.parametrize(
    ("option", "place"),
    [
        ("out", "my images/bundle"), ("out", "my images"), ("out", "my images/a/x/../../b/new"),
        ("out", "link/bundle"), ("out", "."), ("work", "my images/work"), ("work", "."),
        ("work", "link"),
    ],
)  # fmt: skip
def test_nothing_is_written_among_the_images(folder, monkeypatch, option, place):
    root = folder.parent
    (root / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    before = sorted(root.rglob("*"))
    places = {"out": "../b", "work": "../w"} | {option: Path("..") / place}
    words = [word for name, value in places.items() for word in (f"--{name}", value)]
    with pytest.raises(SystemExit, match=rf"{option}: got .*, allowed is a folder apart from data"):
        pretrain_with(monkeypatch, "--data", ".", *words)
    assert sorted(root.rglob("*")) == before


def test_a_refusal_leaves_no_folder(folder, monkeypatch):
    """Parts of another configuration, or a folder of something else where the bundle is to go."""
    out, work = folder.parent / "b", folder.parent / "b.work" / folder.name
    work.mkdir(parents=True)
    (work / "config.json").write_text('{"images": "others", "config": {}}')
    told = rf"^nat-pretrain: work: '{work}' was made with images = 'others'"
    with pytest.raises(SystemExit, match=told):
        pretrain_with(monkeypatch, "--data", folder, "--out", out, "--image-size", "8")
    assert not out.exists()
    (out / "trunk").mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"is no bundle, but has a 'trunk'; choose another folder"):
        pretrain_with(monkeypatch, "--data", folder, "--out", out, "--image-size", "8")
    assert [path.name for path in out.rglob("*")] == ["trunk"]


def test_a_bundle_of_ones_own(folder, monkeypatch, capsys):
    """From the command to a bundle in colour that a discriminator's reals and a judge fit."""
    out = folder.parent / "bundle"
    arguments = ["--data", str(folder), "--out", str(out), "--threads", "1"]
    sizes = ["--image-size", "8", "--hidden-size", "16", "--depth", "1", "--codebook-size", "12"]
    command = ["nat-pretrain", "folder", *arguments, *sizes, "--epochs-factor", "0.02"]
    monkeypatch.setattr("sys.argv", command)
    broken = pretrain.make.train_transformer

    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain.make, "train_transformer", interrupted)
    with pytest.raises(SystemExit, match=re.escape(f"goes on: {shlex.join(command)}")):
        entry.pretrain()
    assert not out.exists()
    monkeypatch.setattr(pretrain.make, "train_transformer", broken)
    entry.pretrain()
    printed = capsys.readouterr().out
    assert "210 images, 3 classes of 60 to 80 images; ignored 7" in printed
    assert f"TensorBoard events are in {out}.work/my images" in printed
    with Image.open(out / "overview.png") as picture:
        assert picture.width >= 10 * 56  # columns, each about 56 pixels wide
    bundle, data = load_bundle(out, "float32"), folder_images(find_images(folder), 8)
    assert (bundle.name, bundle.conditions.names) == ("my images", data.class_names)
    assert (bundle.nat.feature_grid, bundle.nat.mask_id, bundle.nat.feature_size) == (
        (2, 2),
        12,
        16,
    )
    assert torch.equal(bundle.reals.images, data.train_images)  # all there are, in colour
    assert torch.equal(bundle.reals.conditions, data.train_labels)
    assert len(bundle.reals.images) >= DiscriminatorConfig().batch_size
    features = embeddings_of(bundle.yardstick.judge, data.train_images)
    expected = balanced_statistics(features, data.train_labels)
    np.testing.assert_allclose(
        bundle.yardstick.statistics.covariance, expected.covariance, rtol=1e-4
    )
    description = json.loads((out / "bundle.json").read_text())
    assert description["training"]["hidden_size"] == 16
    quality = description["quality"]
    for name, images in (
        ("judge_test_accuracy", to_float(data.test_images)),
        ("judge_accuracy_on_reconstructions", through(bundle, data.test_images)),
    ):
        found = (bundle.yardstick.judge(images).argmax(1) == data.test_labels).double().mean()
        assert quality[name] == pytest.approx(float(found), abs=1.5 / len(images))
    assert verdict(quality, 168, 3, "my images judge") in printed

    next(iter(find_images(folder).files["a"])).unlink()  # other images: nothing is resumed
    with pytest.raises(SystemExit, match=r"work: .* was made with images = .* now .* asked for"):
        entry.pretrain()


def through(bundle, images):
    return bundle.tokenizer.decode(bundle.tokenizer.encode(to_float(images)))


QUALITY = {
    "judge_test_accuracy": 0.95, "judge_accuracy_on_reconstructions": 0.93,
    "judge_accuracy_on_samples": 0.9, "heuristic": 0.8, "real_floor": 0.05,
    "reconstruction_floor": 0.2, "heuristic_measured_on": "500 samples, T = 8",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, r"95 % of the images held out \(guessing: 10 %\): distances under it can be trusted"),
        (
            {},
            r"reconstructions 93 %: they keep .*FD \(j\) of reconstructions 0\.20, of .* 0\.05",
        ),
        ({}, r"samples 90 %; FD \(j, 500 samples, T = 8\) 0\.80: a policy may .* towards 0\.20"),
        ({"judge_test_accuracy": 0.6}, "weak: trust large differences alone"),
        ({"judge_test_accuracy": 0.4}, "hardly better than guessing"),
        ({"judge_accuracy_on_reconstructions": 0.8}, "lose some of what the judge looks at"),
        ({"judge_accuracy_on_reconstructions": 0.5}, "lose much of it, .* more codes, or longer"),
        (
            {"heuristic": 0.1},
            "no worse than reconstructions: there is nothing",
        ),
    ],
)
def test_the_verdict_says_what_the_numbers_mean(changed, said):
    assert re.search(said, verdict(QUALITY | changed, 20_000, 10, "j"))


def test_the_verdict_says_what_so_many_images_are_enough_for():
    assert "20000 training images are enough" in verdict(QUALITY, 20_000, 10, "j")
    assert "with 300 training images the transformer may know" in verdict(QUALITY, 300, 10, "j")


def test_the_shipped_data_sets_are_called_as_before(monkeypatch):
    seen = []
    monkeypatch.setattr("pretrain.run.make_bundle", lambda *given: seen.append(given))
    monkeypatch.setattr("sys.argv", ["nat-pretrain", "digits", "--out", "x"])
    entry.pretrain()
    ((data, config, work, out, execution),) = seen
    assert (data.name, config) == ("digits", PRESETS["digits"])
    assert (work, out, execution) == (Path("x.work/digits"), Path("x"), Execution())


def test_options_of_a_folder_reach_the_configuration(folder):
    given = Folder(
        out=folder, data=folder, codebook_size=9, hidden_size=8, depth=3, seed=5, image_size=8
    )
    data, config = prepared(given)
    assert (config.codebook_size, config.hidden_size, config.depth, config.seed) == (9, 8, 3, 5)
    assert len(data.train_images) == 168
    assert config.judge.loop.epochs == 30
