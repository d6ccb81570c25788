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
from nat_env.commands import entry
from nat_env.generation import generate
from nat_env.models.conditions import Conditions
from nat_env.policies import ScheduledPolicy
from nat_env.render import LEAST_CONFIDENT, MASK_COLOUR, MOST_CONFIDENT, image_grid, to_rgb
from nat_env.schedules import heuristic_schedule


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
    np.testing.assert_array_equal(pixels_of(path), np.asarray(image_grid(images, 3, scale=3)))


def parts_of(frame, side, count, columns, part):
    """The left (0) or right (1) square of each of the samples on a sheet."""
    corners = [
        (2 + i // columns * (side + 2), 2 + i % columns * (2 * side + 2) + part * side)
        for i in range(count)
    ]
    return np.stack([frame[y : y + side, x : x + side] for y, x in corners])


def test_an_animation_uncovers_the_images(arguments, images, tmp_path):
    grid, gif = tmp_path / "grid.png", tmp_path / "new" / "steps.gif"
    assert run(replace(arguments, out=grid, gif=gif, scale=2, batch_size=4)) == [grid, gif]
    with Image.open(gif) as animation:
        assert animation.n_frames == 3  # before the first step, after each of two
        frames = []
        for index in range(3):
            animation.seek(index)
            frames.append(np.asarray(animation.convert("RGB")).astype(int))
    side = 2 * images.shape[-1]
    canvases, confidences = (
        np.stack([parts_of(frame, side, len(images), 3, part) for frame in frames])
        for part in (0, 1)
    )  # each [3, B, side, side, 3]
    covered = (abs(canvases - MASK_COLOUR).max(axis=-1) < 12).mean(axis=(1, 2, 3))
    assert covered[0] == 1 > covered[1] > covered[2] == 0
    shown = np.repeat(np.repeat(to_rgb(images).astype(int), 2, axis=1), 2, axis=2)
    assert abs(canvases[2] - shown).mean() < 3  # a palette of 256 colours

    known = confidences.min(axis=-1) > 240  # white
    assert known[0].all() and not known[1].any()
    was_covered = abs(canvases[1] - MASK_COLOUR).max(axis=-1) < 12
    np.testing.assert_array_equal(known[2], ~was_covered)
    for colour in (LEAST_CONFIDENT, MOST_CONFIDENT):  # in every sample
        there = abs(confidences[1] - colour).max(axis=-1) < 24
        assert there.any(axis=(1, 2)).all()
    with pytest.raises(ValueError, match="gif: got"):
        replace(arguments, gif=tmp_path / "steps.mp4")


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
