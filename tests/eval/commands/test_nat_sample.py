"""nat-sample: the files hold the images of `generate`, for the classes asked for."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from agents.runs.checkpoint import load_policy
from eval.commands.arguments import Sample
from eval.commands.nat_sample import run, sample_labels
from nat_env.bundles.loading import load_bundle
from nat_env.commands import entry
from nat_env.frozen.conditions import Conditions
from nat_env.generation import generate
from nat_env.policies import ScheduledPolicy
from nat_env.render import LEAST_SURE, MASK_COLOUR, MOST_SURE, to_rgb
from nat_env.schedules import amused_schedule, heuristic_schedule


@pytest.fixture
def arguments(tmp_path) -> Sample:
    return Sample(
        out=tmp_path / "images",
        bundle="digits",
        num_steps=2,
        classes=("3", "5"),
        num_samples=6,
        seed=7,
        threads=1,
        dtype="float32",
    )


@pytest.fixture
def images(digits) -> torch.Tensor:
    labels = torch.tensor([3, 3, 3, 5, 5, 5])
    return generate(digits, ScheduledPolicy(heuristic_schedule(2)), labels, 2, seed=7)


def pixels_of(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_a_folder_holds_the_images(arguments, images):
    paths = run(arguments)
    assert [path.name for path in paths] == [
        "0000_3.png", "0001_3.png", "0002_3.png", "0003_5.png", "0004_5.png", "0005_5.png",
    ]  # fmt: skip
    assert sorted(arguments.out.iterdir()) == paths
    np.testing.assert_array_equal(np.stack([pixels_of(path) for path in paths]), to_rgb(images))


def test_a_grid_has_a_row_per_class(arguments, images, tmp_path):
    path = tmp_path / "new" / "grid.png"
    assert run(replace(arguments, out=path, scale=3, batch_size=4)) == [path]
    expected = np.repeat(np.repeat(to_rgb(images), 3, axis=1), 3, axis=2)
    np.testing.assert_array_equal(samples_on(pixels_of(path), 24, 6, 3, 8), expected)
    assert pixels_of(path).shape == (8 + 2 * (24 + 24), 8 + 3 * (24 + 8), 3)


def frames_of(path) -> list[np.ndarray]:
    with Image.open(path) as animation:
        frames = []
        for index in range(animation.n_frames):
            animation.seek(index)
            frames.append(np.asarray(animation.convert("RGB")).astype(int))
    return frames


def samples_on(sheet, side, count, columns, top) -> np.ndarray:
    """The squares of the samples on a sheet, each under a line of 16 pixels, 8 apart."""
    corners = [
        (top + 16 + i // columns * (side + 24), 8 + i % columns * (side + 8)) for i in range(count)
    ]
    return np.stack([sheet[y : y + side, x : x + side] for y, x in corners])


def test_an_animation_uncovers_the_images(arguments, images, tmp_path):
    grid, gif = tmp_path / "grid.png", tmp_path / "new" / "steps.gif"
    assert run(replace(arguments, out=grid, gif=gif, scale=2, batch_size=4)) == [grid, gif]
    frames = frames_of(gif)
    assert len(frames) == 3  # before the first step, after each of two
    side = 2 * images.shape[-1]
    canvases = np.stack([samples_on(f, side, len(images), 3, 24) for f in frames])
    blue = canvases[..., 2] - canvases[..., 0] > 10  # images are grey
    covered = blue.mean(axis=(1, 2, 3))
    assert covered[0] == 1 > covered[1] > covered[2] == 0
    assert abs(canvases[0] - MASK_COLOUR).max() < 12
    shown = np.repeat(np.repeat(to_rgb(images).astype(int), 2, axis=1), 2, axis=2)
    assert abs(canvases[2] - shown).mean() < 3  # a palette of 256 colours
    for colour in (LEAST_SURE, MOST_SURE):  # in every sample
        there = abs(canvases[1] - colour).max(axis=-1) < 24
        assert there.any(axis=(1, 2)).all()
    with pytest.raises(ValueError, match="gif: got"):
        replace(arguments, gif=tmp_path / "steps.mp4")


def test_an_animation_says_step_and_class(arguments, images, tmp_path):
    gif = tmp_path / "steps.gif"
    run(replace(arguments, gif=gif, scale=2))
    titles = [frame[:24] for frame in frames_of(gif)]
    assert all((title < 128).any() for title in titles)
    assert all((titles[i] != titles[i + 1]).any() for i in range(2))
    names = samples_on(frames_of(gif)[0], 16, 6, 3, 8)  # the lines above the samples
    assert all((name < 128).any() for name in names)
    assert (names[0] == names[2]).all() and (names[0] != names[5]).any()


def test_an_animation_of_many_shows_some_of_each_class(arguments, tmp_path, digits):
    gif = tmp_path / "steps.gif"
    out = tmp_path / "images"
    run(replace(arguments, out=out, gif=gif, classes=(), num_samples=250, scale=1, num_steps=1))
    last = samples_on(frames_of(gif)[-1], 8, 100, 10, 24)
    names = sorted(path.name for path in out.iterdir())
    chosen = np.linspace(0, 249, 100).round().astype(int)
    for shown, index in zip(last, chosen, strict=True):
        assert abs(shown - pixels_of(out / names[index]).astype(int)).mean() < 4
    assert frames_of(gif)[0].shape[0] == 24 + 10 * (8 + 24)


def test_images_are_drawn_about_as_wide_whatever_their_size(arguments, images, tmp_path):
    path = tmp_path / "grid.png"
    run(replace(arguments, out=path))
    sheet = samples_on(pixels_of(path), 112, 6, 3, 8)
    expected = np.repeat(np.repeat(to_rgb(images), 14, axis=1), 14, axis=2)
    np.testing.assert_array_equal(sheet, expected)


def test_a_run_brings_its_bundle_and_steps(arguments, digits, make_run):
    folder = make_run(num_steps=3)
    paths = run(
        replace(
            arguments, policy=str(folder), bundle=None, num_steps=None, classes=(), num_samples=2
        )
    )
    expected = generate(digits, load_policy(folder, digits), torch.tensor([0, 1]), 3, seed=7)
    np.testing.assert_array_equal(np.stack([pixels_of(path) for path in paths]), to_rgb(expected))


def test_classes_by_name_or_number(digits):
    named = replace(digits, conditions=Conditions(("Sandal", "1", "Ankle boot", "3", *"456789")))
    assert sample_labels(named, ["ankle BOOT", "0"], 4).tolist() == [2, 2, 0, 0]
    assert sample_labels(named, ["sandal", "9", "3"], 4).tolist() == [0, 0, 9, 3]
    assert sample_labels(named, [], 11).tolist() == [0, 0, *range(1, 10)]
    swapped = replace(digits, conditions=Conditions(digits.conditions.names[::-1]))
    assert sample_labels(swapped, ["0"], 1).tolist() == [9]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "Sandal"], r"classes: got 'Sandal', allowed are 0 \(0\), 1 \(1\)"),
        (["--classes", "10"], "classes: got '10'"),
        (["--classes", "-1"], "classes: got '-1'"),
        (["--policy", "nonsense"], "policy: got 'nonsense', allowed are heuristic"),
        (["--num-steps", "0"], "num_steps: got 0"),
        (["--seed", "-1"], "seed: got -1"),
        (["--bundle", "nonsense"], "bundle: got 'nonsense'"),
    ],
)
def test_errors_end_the_command_with_a_message(monkeypatch, tmp_path, options, message):
    out = tmp_path / "grid.png"
    defaults = ["--bundle", "digits", "--dtype", "float32", "--threads", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["nat-sample", *defaults, *options])
    with pytest.raises(SystemExit, match=rf"nat-sample: .*{message}"):
        entry.sample()
    assert not out.exists()


@pytest.mark.parametrize(
    "change", [{"num_samples": 0}, {"scale": 0}, {"batch_size": 0}, {"threads": 0}]
)
def test_numbers_are_checked(arguments, change):
    with pytest.raises(ValueError, match="got 0, allowed is >= 1"):
        replace(arguments, **change)


def test_other_picture_formats_are_refused(arguments, tmp_path):
    with pytest.raises(ValueError, match=r"a \.png file or a folder"):
        replace(arguments, out=tmp_path / "grid.jpg")


def test_a_bundle_of_amused(amused_bundle_folder, tmp_path):
    """By the schedule of diffusers' pipeline, for a prompt of its table."""
    out = tmp_path / "images"
    arguments = Sample(
        out=out, policy="amused", bundle=str(amused_bundle_folder), num_steps=3,
        classes=("a zebra",), num_samples=2, seed=4, threads=1, dtype="float32",
    )  # fmt: skip
    paths = run(arguments)
    assert [path.name for path in paths] == ["0000_a-zebra.png", "0001_a-zebra.png"]
    bundle = load_bundle(amused_bundle_folder, "float32")
    images = generate(bundle, ScheduledPolicy(amused_schedule(3, 16)), [1, 1], 3, seed=4)
    np.testing.assert_array_equal(np.stack([pixels_of(path) for path in paths]), to_rgb(images))


def test_a_folder_that_is_named_like_a_picture_is_refused_before_anything_is_drawn(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("eval.commands.nat_sample.generate", None)
    (tmp_path / "grid.png").mkdir()
    (tmp_path / "steps.gif").mkdir()
    for name, words in (
        ("out", {"out": tmp_path / "grid.png"}),
        ("gif", {"out": tmp_path / "x.png", "gif": tmp_path / "steps.gif"}),
    ):
        with pytest.raises(ValueError, match=rf"^{name}: got .*(png|gif)', a folder"):
            run(Sample(bundle="digits", **words))
