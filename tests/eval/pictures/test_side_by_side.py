"""Policies side by side: every sample where it belongs, as large as asked for, captions above."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from eval.commands.arguments import Sample
from eval.commands.nat_sample import run
from eval.pictures.side_by_side import caption_lines, enlarged, save_side_by_side, starts
from nat_env import load_bundle
from nat_env.commands.parsing import parse
from nat_env.generation import generate
from nat_env.policies import ScheduledPolicy
from nat_env.render import to_rgb
from nat_env.schedules import heuristic_schedule

POLICIES = {
    "papers": ScheduledPolicy(heuristic_schedule(2)),
    "another": ScheduledPolicy(heuristic_schedule(2, 8.0, 0.0, 2.0)),
}


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def places(sheet, frame):
    """Top left corners at which a frame is found in a picture, to a grey level or two."""
    height, width, _ = frame.shape
    views = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], (height, width))
    corners = (0, 0), (height // 2, width // 3), (height - 1, width - 1), (height // 3, width // 2)
    near = np.ones(views.shape[:2], dtype=bool)
    for y, x in corners:
        near &= np.abs(views[:, :, y, x].astype(int) - int(frame[y, x, 0])) <= 2
    return [
        (y, x)
        for y, x in np.argwhere(near).tolist()
        if np.abs(views[y, x].astype(int) - frame[..., 0].astype(int)).max() <= 2
    ]


def test_every_sample_is_under_its_prompt_and_beside_its_policy(digits, tmp_path):
    conditions, path = [7, 3, 3, 0, 1, 2, 8, 9, 5], tmp_path / "a.png"
    save_side_by_side(path, digits, POLICIES, conditions, 2, seed=5, scale=4)
    sheet = pixels_of(path)
    found = np.array(
        [
            [
                places(sheet, np.asarray(Image.fromarray(frame).resize((32, 32), 1)))[0]
                for frame in to_rgb(generate(digits, policy, conditions, 2, seed=5))
            ]
            for policy in POLICIES.values()
        ]
    )  # [policies, samples, 2]
    ys, xs = found[..., 0], found[..., 1]
    assert (xs[0] == xs[1]).all() and (np.diff(xs[0, :8]) == 42).all() and xs[0, 8] == xs[0, 0]
    for band in (slice(0, 8), slice(8, 9)):
        assert len(set(ys[0, band])) == 1 and (ys[1, band] - ys[0, band] == 42).all()
    assert ys[0, 8] > ys[1, 0] + 42  # a caption lies between the bands
    above = sheet[ys[0, 0] - 20 : ys[0, 0] - 2]
    inked = [(above[:, x : x + 32] < 200).any() for x in xs[0, :8]]
    assert inked == [True, True, False, True, True, True, True, True]  # one 3 is captioned
    left = sheet[:, : xs[0, 0] - 4, 0] < 128
    assert all(left[y + 4 : y + 28].any() for y in ys[:, 0])


def test_images_grow_smoothly():
    frames = np.zeros((1, 4, 4, 3), np.uint8)
    frames[:, :, 2:] = 255
    large = enlarged(frames, 4)
    assert large.shape == (1, 16, 16, 3)
    assert (large[0, :, :4] < 20).all() and (large[0, :, -4:] > 235).all()
    assert len(np.unique(large)) > 4
    assert starts([1, 1, 2, 1]) == [True, False, True, True]


@pytest.mark.parametrize("width", [32, 112, 128])
def test_a_caption_is_no_wider_than_its_image_and_not_too_high(width):
    for text in ("a red apple, noto style", "word " * 100, "x" * 300, "日本" * 60):
        lines = caption_lines(text, width)
        assert 1 <= len(lines) <= 4 and all(len(line) <= max(8, width / 7) for line in lines)
    assert " ".join(caption_lines("a red apple", 128)) == "a red apple"


def test_prompts_are_drawn_by_two_policies(toy_text, text_folder, tmp_path):
    words = ["--bundle", str(text_folder), "--num-steps", "2", "--threads", "1", "--scale", "8"]
    words += ["--beside", "papers' heuristic=heuristic", "--policy", "hot=heuristic(1, 1, 9)"]
    words += ["--prompt", "aaa b bb", "--prompt", "ccc d", "--prompt", "a bb"]
    words += ["--out", str(tmp_path / "new" / "two.png")]
    arguments = parse(Sample, "nat-sample", words)
    assert arguments.count == 3 and arguments.beside == ("papers' heuristic=heuristic",)
    assert run(arguments) == [tmp_path / "new" / "two.png"]
    sheet = pixels_of(arguments.out)
    xs = []
    for prompt in arguments.prompt:
        grey = np.rint(toy_text.drawn(prompt)[0].numpy() * 255).astype(np.uint8)
        large = np.asarray(Image.fromarray(grey).resize((32, 32), Image.Resampling.LANCZOS))
        found = places(sheet, large[..., None].repeat(3, axis=2))
        # The model is sure of its prompt, whatever the policy: the same image in both rows.
        assert len({x for _, x in found}) == 1 and [y - found[0][0] for y, _ in found] == [0, 42]
        xs.append(found[0][1])
    assert np.diff(xs).tolist() == [42, 42]
    # By default sixteen where nothing is named.
    assert replace(arguments, prompt=()).count == 16
    assert replace(arguments, beside=()).count == 16


def test_policies_of_runs_are_beside_schedules(make_run, tmp_path, digits):
    run_folder = str(make_run())
    arguments = Sample(
        tmp_path / "two.png", policy=run_folder, beside=("heuristic",), classes=("3", "4"),
        num_samples=4, seed=2, threads=1, dtype="float32",
    )  # fmt: skip
    assert run(arguments) == [tmp_path / "two.png"]
    frames = to_rgb(
        generate(
            load_bundle("digits", "float32"),
            ScheduledPolicy(heuristic_schedule(2)),
            [3, 3, 4, 4],
            2,
            seed=2,
        )
    )
    sheet = pixels_of(arguments.out)
    for frame in enlarged(frames, 14):
        assert places(sheet, frame)


@pytest.mark.parametrize(
    "change", [{"out": "folder"}, {"gif": "a.gif"}, {"inpaint": ("a.png", "b.png")}]
)
def test_a_comparison_is_one_picture(change, tmp_path):
    values = {name: tmp_path / v if isinstance(v, str) else v for name, v in change.items()}
    with pytest.raises(ValueError, match=r"^beside: got \('heuristic',\), allowed is so only"):
        Sample(**{"out": tmp_path / "a.png", "beside": ("heuristic",)} | values)


def test_two_policies_of_one_name_are_refused_before_anything_is_drawn(tmp_path):
    arguments = Sample(tmp_path / "a.png", bundle="digits", beside=("x=heuristic",),
                       policy="x=heuristic(1, 1, 2)")  # fmt: skip
    with pytest.raises(ValueError, match="two are named 'x'"):
        run(arguments)
    assert not (tmp_path / "a.png").exists()
