"""`make demo` at small size: what it writes, and that it goes on."""

import json
import re

import pytest

import eval.evaluation.cells
import eval.judges.references
import eval.studies.demo
from eval.studies.arguments import Demo
from eval.studies.demo import demo


def test_the_report_shows_the_policy_beside_the_heuristic(
    tmp_path, small_preset, monkeypatch, capsys
):
    small = {"bundle": "digits", "budget": 192, "num_samples": 40, "threads": 1}
    arguments = Demo(tmp_path / "out", judges=(), **small)
    demo(arguments)
    report = (arguments.out / "report.md").read_text()
    rows = json.loads((arguments.out / "results.json").read_text())["rows"]
    assert [row["policy"] for row in rows] == ["heuristic", "learned"]
    for row in rows:
        assert (
            f"| {row['policy']} | 2 | {row['passes']:.2f} | digits-judge, N = 40 "
            f"| {row['frechet_distance']:.2f} |" in report
        )
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", report)
    assert len(pictures) == 5 and all((arguments.out / name).is_file() for name in pictures)
    history = json.loads((arguments.out / "policy" / "results.json").read_text())["history"]
    said = capsys.readouterr().out
    best = min(row["frechet_distance"] for row in history)
    assert f"FD {history[0]['frechet_distance']:.2f} -> {best:.2f}" in said

    def refuse(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(eval.evaluation.cells, "measure", refuse)
    demo(arguments)
    assert json.loads((arguments.out / "results.json").read_text())["rows"] == rows


def test_the_gain_is_shown_by_the_independent_judge_too(
    tmp_path, small_preset, pixels, monkeypatch
):
    monkeypatch.setattr(eval.judges.references, "independent_judge", lambda *_, **__: pixels)
    arguments = Demo(tmp_path, bundle="digits", budget=192, num_samples=40, threads=1)
    demo(arguments)
    table = (tmp_path / "report.md").read_text()
    for judge in ("digits-judge", "pixels"):
        assert re.search(
            rf"learned \| 2 \| [\d.]+ \| {judge}, N = 40 \| [\d.]+ \| [+-]\d+ % \|", table
        )


def test_what_another_judge_needs_is_asked_for_before_the_training(tmp_path):
    with pytest.raises(ValueError, match=r"num_samples: got 1280, allowed is > 1280"):
        demo(Demo(tmp_path / "out", bundle="digits", num_samples=1280, threads=1))
    assert not (tmp_path / "out").exists()
