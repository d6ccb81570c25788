"""The report on a bundle: the grid's best at each T beside the papers' schedule."""

import json

import pytest

import agents.search.grid
import eval.evaluation.measure
from eval.evaluation.rows import Results
from eval.studies.arguments import Quality
from eval.studies.quality import report
from nat_env.generation import generate_batches
from nat_env.schedules import Schedule
from nat_env.seeds import GRID, NAT_EVAL


@pytest.fixture
def arguments(tmp_path) -> Quality:
    return Quality(
        out=tmp_path,
        bundle="digits",
        num_steps=(1, 2),
        num_samples=40,
        grid_samples=36,
        remask_slopes=(1.0,),
        guidance_slopes=(0.0, 1.0),
        sampling_temperatures=(1.0,),
        batch_size=20,
        judges=(),
        threads=1,
        dtype="float32",
    )


def test_the_best_of_each_grid_is_evaluated_on_other_samples(
    arguments, tmp_path, digits, monkeypatch
):
    drawn = []

    def spy(bundle, policy, conditions, num_steps, seed, *rest):
        drawn.append(seed)
        return generate_batches(bundle, policy, conditions, num_steps, seed, *rest)

    for module in (eval.evaluation.measure, agents.search.grid):
        monkeypatch.setattr(module, "generate_batches", spy)
    text, pictures = report(arguments)
    rows = Results(tmp_path / "results.json").rows
    best = {t: tmp_path / f"best_T{t}.json" for t in (1, 2)}
    assert [(row["num_steps"], row["policy"], row["num_samples"]) for row in rows] == [
        (1, "heuristic", 40), (1, "best_T1", 40), (2, "heuristic", 40), (2, "best_T2", 40),
    ]  # fmt: skip
    of_grids = [seed for seed in drawn if GRID.first <= seed <= GRID.last]
    assert len(of_grids) == 2 * 2  # two schedules at each of two T
    assert all(seed <= NAT_EVAL.last for seed in drawn if seed not in of_grids)
    for num_steps, path in best.items():
        trials = json.loads((tmp_path / f"trials_T{num_steps}.json").read_text())
        winner = min(trials, key=lambda trial: trial["frechet_distance"])["schedule"]
        assert Schedule.load(path).name == f"best {winner}"
        assert f"{path}: best {winner}" in text
    assert f"codes in use: {digits.quality['codes_in_use']}" in text
    assert (tmp_path / "quality.md").read_text() == text + "\n"
    assert pictures and all(path.is_file() for path in pictures)


def test_what_is_there_is_not_computed_again(arguments, tmp_path, monkeypatch):
    first, _ = report(arguments)

    def refuse(*_, **__):
        raise AssertionError("evaluated again")

    monkeypatch.setattr("eval.evaluation.cells.measure", refuse)
    monkeypatch.setattr("agents.search.grid.generate_batches", refuse)
    assert report(arguments)[0] == first


def test_bad_numbers_are_refused_before_work(tmp_path):
    with pytest.raises(ValueError, match="num_steps: got none"):
        Quality(out=tmp_path, num_steps=())
    with pytest.raises(ValueError, match="num_steps: got 0"):
        Quality(out=tmp_path, num_steps=(4, 0))
    with pytest.raises(ValueError, match="guidance_slopes: got none"):
        Quality(out=tmp_path, guidance_slopes=())
