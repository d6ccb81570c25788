"""nat-pretrain emoji: what it refuses before any work, and what it hands on."""

import re
from pathlib import Path

import pytest

from nat_env.commands import entry
from pretrain.captioned.config import CaptionedConfig


def command(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["nat-pretrain", "emoji", *map(str, words)])
    entry.pretrain()


@pytest.fixture
def undrawn(monkeypatch):
    """Nothing is drawn."""
    monkeypatch.setattr("pretrain.captioned.run.emoji", None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image-size", "30"], r"image_size: got \(30, 30\), allowed are multiples .* 4"),
        (["--image-size", "0"], "image_size: got 0, allowed is >= 1"),
        (["--image-size", "large"], "image-size"),
        (["--accumulate", "3"], "batch_size: got 256, allowed are multiples of 3"),
        (["--device", "gpu"], "device: got 'gpu', which torch cannot use"),
        (["--data", ".", "--out", "made"], "out: got .*, allowed is a folder apart from data"),
        (["--data", ".", "--work", "w"], "work: got .*, allowed is a folder apart from data"),
    ],
)
def test_options_are_checked_before_any_work(
    undrawn, monkeypatch, capsys, tmp_path, words, message
):
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in words else ["--out", str(tmp_path.parent / "elsewhere")]
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, *words, *out)
    assert re.search(message, f"{stopped.value} {capsys.readouterr().err}")
    assert not any(tmp_path.iterdir()) and not (tmp_path.parent / "elsewhere").exists()


def test_a_folder_without_the_packages_is_refused(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    words = ["--data", tmp_path / "data", "--out", tmp_path / "out"]
    with pytest.raises(SystemExit, match=r"^nat-pretrain: data: .*@iconify-json/noto"):
        command(monkeypatch, *words)
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


def test_images_are_drawn_larger_than_the_bundles(monkeypatch, data, capsys):
    drawn, made = [], []
    monkeypatch.setattr(
        "pretrain.captioned.run.emoji", lambda folder, size: drawn.append(size) or data
    )
    monkeypatch.setattr("pretrain.captioned.run.notices", lambda folder, size: f"of {size}")
    monkeypatch.setattr(
        "pretrain.captioned.run.make_captioned_bundle", lambda *given: made.append(given)
    )
    command(monkeypatch, "--out", "x", "--image-size", "16")
    ((given, encoder, notice, config, work, out, _),) = made
    assert drawn == [32] and given is data and encoder.styles == data.styles
    assert (notice, config) == ("of 16", CaptionedConfig(image_size=16))
    assert (work, out) == (Path("x.work/toys"), Path("x"))
    assert "nat-train custom --bundle x --out runs/mine" in capsys.readouterr().out
