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
