"""nat-sample --prompt."""

import numpy as np
import pytest
from PIL import Image

from eval.commands.arguments import Sample
from eval.commands.nat_sample import file_name, run
from nat_env.commands.parsing import parse


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def test_prompts_are_drawn_and_name_their_files(toy_text, text_folder, tmp_path):
    words = ["--out", str(tmp_path / "out"), "--bundle", str(text_folder), "--num-steps", "2"]
    words += ["--prompt", "aaa b bb", "--num-samples", "4", "--prompt", "ccc d", "--threads", "1"]
    arguments = parse(Sample, "nat-sample", words)
    assert arguments.prompt == ("aaa b bb", "ccc d")
    paths = run(arguments)
    assert [path.name for path in paths] == [
        "0000_aaa-b-bb.png", "0001_aaa-b-bb.png", "0002_ccc-d.png", "0003_ccc-d.png",
    ]  # fmt: skip
    for path, prompt in zip(paths, ["aaa b bb"] * 2 + ["ccc d"] * 2, strict=True):
        expected = (toy_text.drawn(prompt)[0] * 255).round().numpy()
        np.testing.assert_allclose(pixels_of(path), expected, atol=1)


def test_a_grid_of_a_long_prompt_is_as_wide_as_its_images(toy_text, text_folder, tmp_path):
    long = "a" * 300
    arguments = Sample(
        tmp_path / "grid.png", bundle=str(text_folder), num_steps=1, prompt=(long,), num_samples=1
    )
    (path,) = run(arguments)
    with Image.open(path) as image:
        assert image.width < 200
    (path,) = run(
        Sample(tmp_path / "f", bundle=str(text_folder), prompt=(long,), num_samples=1, num_steps=1)
    )
    assert path.name == f"0000_{'a' * 48}.png"


def test_an_animation_of_prompts_ends_with_what_they_say(toy_text, text_folder, tmp_path):
    prompts, gif = ("aaa b bb", "ccc d", "a bb"), tmp_path / "steps.gif"
    run(
        Sample(tmp_path / "out.png", bundle=str(text_folder), num_steps=3, prompt=prompts,
               num_samples=3, gif=gif, scale=10, threads=1)
    )  # fmt: skip
    with Image.open(gif) as animation:
        frames = []
        for index in range(animation.n_frames):
            animation.seek(index)
            frames.append(np.asarray(animation.convert("L")))
    assert len(frames) == 4  # before the first step, and after each
    last, top = frames[-1], 8 + 16
    above = last.shape[0] - top - 2 * (40 + 8)  # two rows of samples, captions of equal height
    assert above % 32 == 0
    cell = above // 2 + 48
    for index, prompt in enumerate(prompts):
        y, x = top + index // 2 * cell + above // 2, 8 + index % 2 * 48
        expected = (toy_text.drawn(prompt)[0] * 255).round().numpy().repeat(10, 0).repeat(10, 1)
        np.testing.assert_allclose(last[y : y + 40, x : x + 40], expected, atol=6)
        assert (last[y - above // 2 : y, x : x + 40] < 128).any()  # its caption
        assert not np.allclose(frames[0][y : y + 40, x : x + 40], expected, atol=6)


def test_names_of_files_are_short_in_any_alphabet():
    for name in ("é" * 300, "日本" * 200, "a b" * 100):
        assert len(file_name(name).encode()) <= 48
    assert file_name("two dogs") == "two-dogs"


def test_bad_prompts_are_refused(text_folder, tmp_path):
    with pytest.raises(ValueError, match=r"^prompt: got \('a',\) and the classes"):
        Sample(tmp_path / "out", prompt=("a",), classes=("b",))
    for bundle, prompt, message in (
        (str(text_folder), "a b c d e", r"^prompts: got 'a b c d e' of 5 words"),
        (str(text_folder), " ", r"^prompts: got an empty one"),
        ("digits", "a cat", r"^prompts: got 'a cat' for conditions that are classes"),
    ):
        with pytest.raises(ValueError, match=message):
            run(Sample(tmp_path / "out", bundle=bundle, prompt=(prompt,), num_steps=2))
    assert not (tmp_path / "out").exists()
