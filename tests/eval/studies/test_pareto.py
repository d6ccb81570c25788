"""Quality against passes: the whole study at toy size, and its figures by hand."""

import json
from dataclasses import replace

import pytest
from PIL import Image

import eval.studies.methods
from eval.studies.arguments import Pareto
from eval.studies.pareto import pareto, passes_for, savings, table


@pytest.fixture
def arguments(tmp_path, small_preset) -> Pareto:
    return Pareto(
        tmp_path,
        bundle="digits",
        num_steps=(2, 4),
        methods=("cma",),
        most_steps=3,
        step_costs=(0.0, 5.0),
        seeds=(0, 1),
        budget=256,
        num_samples=40,
        judges=(),
        threads=1,
        progress=False,
    )


def test_the_whole_study(arguments, tmp_path, monkeypatch):
    report = pareto(arguments)
    rows = [
        row
        for num_steps in (2, 3, 4)
        for row in json.loads((tmp_path / f"T{num_steps}" / "results.json").read_text())["rows"]
    ]
    costly = "adaptive-cost-5"
    expected = {("heuristic", 2), ("heuristic", 3), ("heuristic", 4), ("cma", 2), ("cma", 4)}
    expected |= {("adaptive-cost-0", 3), (costly, 3)}
    assert {(row["policy"], row["num_steps"]) for row in rows} == expected
    assert all(row["passes"] == row["num_steps"] for row in rows if row["policy"] == "heuristic")
    configs = tmp_path / "T3" / costly / "0" / "config.json"
    assert json.loads(configs.read_text())["config"]["step_cost"] == 5.0
    assert f"| {costly} | PPO, discriminator less a cost of passes | 256 | 256 |" in report
    assert "| cma | CMA-ES on the FD | 256 | 256 |" in report
    assert table(rows) in report and savings(rows, ["adaptive-cost-0", costly]) in report
    with Image.open(tmp_path / "pareto.png") as picture:
        assert picture.size[0] > 400

    def refuse(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(eval.studies.methods, "Training", refuse)
    assert pareto(arguments) == report
    with pytest.raises(AssertionError, match="made again"):
        pareto(replace(arguments, step_costs=(0.0, 1.0)))


def test_passes_of_schedules_of_an_equal_distance():
    """Between 4 passes of FD 8 and 8 passes of FD 2 lie 6 of FD 4; a worse one is no way there."""
    schedules = [(2, 30.0), (4, 8.0), (6, 9.0), (8, 2.0), (16, 2.5)]
    assert passes_for(4.0, schedules) == pytest.approx(6.0)
    assert passes_for(8.0, schedules) == pytest.approx(4.0)
    assert passes_for(2.0, schedules) == pytest.approx(8.0)
    assert passes_for(50.0, schedules) == 2.0
    assert passes_for(1.9, schedules) is None
    assert passes_for(1.0, []) is None


def test_savings_are_paired_by_seed():
    def rows(policy, num_steps, values):
        return [
            {"policy": policy, "num_steps": num_steps, "judge": "j", "seed": seed,
             "passes": passes, "frechet_distance": distance}
            for seed, (passes, distance) in enumerate(values)
        ]  # fmt: skip

    fixed = rows("heuristic", 4, [(4, 8.0), (4, 16.0)]) + rows("cma", 8, [(8, 2.0), (8, 4.0)])
    adaptive = rows("a", 8, [(3.0, 4.0), (4.0, 8.0)])  # where schedules need 6 in either seed
    said = savings([*fixed, *adaptive], ["a"])
    assert said.startswith(
        "- a, j: 3.50 passes where the best of the others needs 6.00 (-42 %), fewer by 2.5 ["
    )
    assert "in 2 seeds" in said
    said = savings([*fixed, *rows("a", 8, [(3.0, 4.0), (4.0, 3.0)])], ["a"])
    assert said == (
        "- a, j: 3.00 passes where the best of the others needs 6.00 (-50 %), fewer by 3 in one "
        "seed; in 1 of 2 seeds none of the others reaches its FD"
    )
    assert (
        savings(fixed + rows("a", 8, [(3.0, 1.0)]), ["a"])
        == "- a, j: in 1 of 1 seeds none of the others reaches its FD"
    )
