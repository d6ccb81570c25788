"""`make demo` at small size: what it writes, and that it goes on."""

import json
import re

import eval.evaluation.cells
from eval.studies.arguments import Demo
from eval.studies.demo import demo


def test_the_report_shows_the_policy_beside_the_heuristic(
    tmp_path, small_preset, monkeypatch, capsys
):
    arguments = Demo(
        tmp_path / "out", bundle="digits", budget=192, num_samples=40, second_judge=False, threads=1
    )
    demo(arguments)
    report = (arguments.out / "report.md").read_text()
    rows = json.loads((arguments.out / "results.json").read_text())["rows"]
    assert [row["policy"] for row in rows] == ["heuristic", str(arguments.out / "policy")]
    for row in rows:
        assert (
            f"| {row['policy']} | 2 | digits-judge, N = 40 | {row['frechet_distance']:.2f} |"
            in (report)
        )
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", report)
    assert len(pictures) == 4 and all((arguments.out / name).is_file() for name in pictures)
    history = json.loads((arguments.out / "policy" / "results.json").read_text())["history"]
    said = capsys.readouterr().out
    best = min(row["frechet_distance"] for row in history)
    assert f"FD {history[0]['frechet_distance']:.2f} -> {best:.2f}" in said

    def refuse(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(eval.evaluation.cells, "evaluate", refuse)
    demo(arguments)
    assert json.loads((arguments.out / "results.json").read_text())["rows"] == rows
