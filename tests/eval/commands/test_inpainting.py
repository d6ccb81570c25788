"""nat-sample --inpaint: a mask's pixels as tokens, completions as `generate` makes them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import eval.commands.nat_sample
from eval.commands.arguments import Sample
from eval.commands.inpainting import read_partly_known
from eval.commands.nat_sample import run
from nat_env.generation import generate
from nat_env.policies import ScheduledPolicy
from nat_env.render import MASK_COLOUR, to_rgb
from nat_env.schedules import heuristic_schedule

MASK = np.zeros((8, 8), np.uint8)
MASK[5, 3] = MASK[6:, :] = 255
"""White at rows 6 and 7, and at one pixel more: of tokens 2 x 2, row 2 at column 1, and row 3."""

UNKNOWN = [9, 12, 13, 14, 15]


@pytest.fixture
def image(digits):
    return digits.reals.images[0]  # [1, 8, 8] uint8


@pytest.fixture
def files(tmp_path, image):
    Image.fromarray(image[0].numpy()).save(tmp_path / "image.png")
    Image.fromarray(MASK).save(tmp_path / "mask.png")
    return tmp_path / "image.png", tmp_path / "mask.png"


@pytest.fixture
def arguments(tmp_path, files):
    return Sample(
        out=tmp_path / "images",
        bundle="digits",
        num_steps=2,
        classes=("3", "5"),
        num_samples=4,
        seed=7,
        threads=1,
        dtype="float32",
        inpaint=files,
    )


@pytest.fixture
def completions(digits, image):
    ids = digits.tokenizer.encode(image[None].float() / 255).expand(4, -1)
    known = torch.ones(4, 16, dtype=torch.bool)
    known[:, UNKNOWN] = False
    policy, labels = ScheduledPolicy(heuristic_schedule(2)), torch.tensor([3, 3, 5, 5])
    return generate(digits, policy, labels, 2, seed=7, ids=ids, known=known)


def pixels_of(path):
    with Image.open(path) as found:
        return np.asarray(found.convert("RGB"))


def test_a_folder_holds_the_image_what_is_known_and_the_completions(arguments, image, completions):
    paths = run(arguments)
    assert [path.name for path in paths] == [
        "image.png", "known.png", "0000_3.png", "0001_3.png", "0002_5.png", "0003_5.png"
    ]  # fmt: skip
    original = to_rgb(image[None].float() / 255)[0]
    np.testing.assert_array_equal(pixels_of(paths[0]), original)
    covered = (pixels_of(paths[1]) == MASK_COLOUR).all(axis=2)
    cells = covered.reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(16, 4)
    assert np.flatnonzero(cells.all(axis=1)).tolist() == UNKNOWN
    np.testing.assert_array_equal(pixels_of(paths[1])[~covered], original[~covered])
    drawn = np.stack([pixels_of(path) for path in paths[2:]])
    np.testing.assert_array_equal(drawn, to_rgb(completions))


def test_known_pixels_are_kept_where_that_is_asked_for(arguments, image, completions):
    paths = run(replace(arguments, keep_pixels=True))
    original = to_rgb(image[None].float() / 255)[0]
    expected = np.where((MASK == 255)[None, :, :, None], to_rgb(completions), original)
    np.testing.assert_array_equal(np.stack([pixels_of(p) for p in paths[2:]]), expected)
    with pytest.raises(
        ValueError, match=r"^keep_pixels: got True, allowed is so only with inpaint"
    ):
        replace(arguments, keep_pixels=True, inpaint=None)


def test_a_grid_and_an_animation_begin_with_what_is_known(arguments, tmp_path):
    gif = tmp_path / "steps.gif"
    run(replace(arguments, out=tmp_path / "grid.png", gif=gif, scale=2))
    sheet = pixels_of(tmp_path / "grid.png")
    cell = 16 + 8
    covered = sheet[8 + 16 : 8 + 32, 8 + cell : 8 + cell + 16]  # the second: what is known
    assert (covered[12:] == MASK_COLOUR).all() and (covered[:8] != MASK_COLOUR).any(axis=2).all()
    with Image.open(gif) as animation:
        first = np.asarray(animation.convert("RGB")).astype(int)
    for y, x in ((24, 8), (24, 32), (64, 8), (64, 32)):  # two of each class, under title and name
        sample = first[y + 16 : y + 32, x : x + 16]
        near = np.abs(sample - np.array(MASK_COLOUR)).max(axis=2) < 12
        cells = near.reshape(4, 4, 4, 4).transpose(0, 2, 1, 3).reshape(16, 16)
        assert np.flatnonzero(cells.mean(axis=1) > 0.9).tolist() == UNKNOWN


def test_files_of_other_sizes_are_brought_to_the_bundles(digits, image, tmp_path):
    large = Image.fromarray(image[0].numpy()).resize((80, 80), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.png")
    mask = np.zeros((160, 160), np.uint8)
    mask[119, 79] = 255  # one pixel of 20 x 20 that fall on pixel (5, 3)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    found = read_partly_known(digits, tmp_path / "large.png", tmp_path / "mask.png")
    assert np.argwhere(~found.known_pixels).tolist() == [[5, 3]]
    assert (~found.known).nonzero()[:, 0].tolist() == [9]
    mask = np.zeros((1600, 1600), np.uint8)
    mask[1199, 799] = 255  # one of 200 x 200: less than a half of a byte's step
    Image.fromarray(mask).save(tmp_path / "mask.png")
    found = read_partly_known(digits, tmp_path / "large.png", tmp_path / "mask.png")
    assert np.argwhere(~found.known_pixels).tolist() == [[5, 3]]


def test_what_does_not_fit_is_refused_before_any_folder_is_made(arguments, files, tmp_path):
    picture, mask = files
    Image.new("L", (8, 6), "white").save(tmp_path / "wide.png")
    Image.new("L", (8, 8), "black").save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("no image")
    for inpaint, message in (
        ((picture, tmp_path / "wide.png"), r"^inpaint: .*wide\.png has 8 x 6 pixels, allowed is"),
        ((picture, tmp_path / "black.png"), r"^inpaint: .*black\.png has no white"),
        ((tmp_path / "text.png", mask), r"^inpaint: .*text\.png cannot be read"),
        ((picture, tmp_path / "none.png"), r"^inpaint: .*none\.png cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            run(replace(arguments, inpaint=inpaint))
    assert not arguments.out.exists()


def test_a_white_mask_draws_everything(arguments, files, digits, tmp_path):
    Image.new("L", (8, 8), "white").save(files[1])
    paths = run(arguments)
    labels = torch.tensor([3, 3, 5, 5])
    expected = generate(digits, ScheduledPolicy(heuristic_schedule(2)), labels, 2, seed=7)
    np.testing.assert_array_equal(np.stack([pixels_of(p) for p in paths[2:]]), to_rgb(expected))


def test_amused_reveals_and_keeps_a_token_in_each_step_of_those_that_are_drawn(
    arguments, monkeypatch
):
    """More steps than tokens that are drawn, and fewer than there are in all."""
    masked = []

    def spied(*given, **tokens):
        *given, _ = given

        def counted(step):
            masked.append((step.ids == 64).sum(dim=1).tolist())

        return generate(*given, counted, **tokens)

    monkeypatch.setattr(eval.commands.nat_sample, "generate", spied)
    run(replace(arguments, policy="amused", num_steps=4))
    left, expected = len(UNKNOWN), []
    for step in range(3):  # as diffusers' AmusedScheduler limits the cosine's share
        share = int(len(UNKNOWN) * np.cos(np.pi / 2 * (step + 1) / 4))
        left = max(1, min(left - 1, share))
        expected.append([left] * 4)
    assert masked == [*expected, [0] * 4]
    assert [row[0] for row in masked] == [4, 3, 1, 0]
