"""Learners compared at equal budgets: trials made once, the last policies in the table."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import eval.studies.learning
import eval.studies.methods
from agents.runs.checkpoint import load_policy, load_run_config
from agents.training.train import Training
from eval.evaluation.fingerprint import policy_fingerprint
from eval.studies.arguments import Learners
from eval.studies.learners import command


@pytest.fixture
def arguments(tmp_path, small_preset) -> Learners:
    return Learners(
        tmp_path / "out",
        bundle="digits",
        algos=("ppo", "ars"),
        num_steps=2,
        seeds=(0, 1),
        budget=192,
        num_samples=80,
        judges=(),
        threads=1,
        progress=False,
    )


def test_trials_are_made_once_and_their_last_policies_are_compared(arguments, digits, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        eval.studies.learning, "save_learning_curves", lambda *args: drawn.append(args)
    )
    report = command(arguments)
    out = arguments.out
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert (out / "algorithms.md").read_text() == report + "\n"
    for name in arguments.algos:
        mine = sorted((r for r in rows if r["policy"] == name), key=lambda r: r["seed"])
        for row, seed in zip(mine, (0, 1), strict=True):
            folder = out / name / str(seed)
            assert load_run_config(folder).algo == name
            last = load_policy(folder, digits, "last")
            assert row["policy_fingerprint"] == policy_fingerprint(last)
        distances = [row["frechet_distance"] for row in mine]
        line = re.search(rf"\| {name} \| 2 \| [\d.]+ \| digits-judge, N = 80 \| (.*?) \|", report)
        assert line and line[1] == f"{np.mean(distances):.2f} ± {np.std(distances, ddof=1):.2f}"
    assert len({row["policy_fingerprint"] for row in rows}) == 5  # with the heuristic
    ppo, ars = (
        {r["seed"]: r["frechet_distance"] for r in rows if r["policy"] == name}
        for name in arguments.algos
    )
    assert "Evaluated on" in report and "with seeds 0, 1" in report
    worse = np.mean([ars[seed] - ppo[seed] for seed in (0, 1)])
    assert re.search(
        rf"- ars against ppo, digits-judge: .* by {worse:.3g} \[.*\] in 2 seeds", report
    )

    _, histories, level, _ = drawn[0]
    for name, of_seeds in histories.items():
        assert [[h["trajectories"] for h in history] for history in of_seeds] == [
            [0, 64, 128, 192]
        ] * 2
        # A linear policy starts as the heuristic exactly, and is measured on the same samples.
        if name == "ars":
            starts = [history[0]["frechet_distance"] for history in of_seeds]
            assert np.mean(starts) == pytest.approx(level, rel=1e-3)

    def refuse(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(eval.studies.methods, "Training", refuse)
    assert command(arguments) == report
    with pytest.raises(AssertionError, match="made again"):
        command(replace(arguments, algos=("ppo", "ars", "a2c")))
    for change, message in (
        ({"budget": 256}, "images = 192, now 256"),
        ({"num_steps": 3}, "num_steps = 2, now 3"),
    ):
        with pytest.raises(ValueError, match=f"^out: .* was made with {message} is asked for"):
            command(replace(arguments, **change))


def test_a_training_that_was_cut_off_does_not_go_on_to_another_budget(arguments, monkeypatch):
    """`nat-train` may make a run longer: here it would learn by two schedules of its rates."""

    class Cut(Training):
        def run(self):
            self._held.close()
            raise KeyboardInterrupt

    monkeypatch.setattr(eval.studies.methods, "Training", Cut)
    with pytest.raises(KeyboardInterrupt):
        command(arguments)
    (folder,) = arguments.out.glob("*/*")
    assert not (folder / "done.json").exists()
    with pytest.raises(ValueError, match=r"^out: .* was made with images = 192, now 256 is asked"):
        command(replace(arguments, budget=256))


def test_what_the_evaluation_would_refuse_is_refused_before_the_trainings(arguments, monkeypatch):
    monkeypatch.delattr(eval.studies.methods, "Training")
    with pytest.raises(ValueError, match=r"^num_samples: got 10, allowed is > "):
        command(replace(arguments, num_samples=10))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("algos", ("dqn",)),
        ("bundle", "paper"),
        ("num_steps", 0),
        ("seeds", ()),
        ("budget", 100),
        ("budget", 0),
        ("threads", 0),
    ],
)
def test_bad_input_is_refused_before_any_work(arguments, name, value):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        command(replace(arguments, **{name: value}))
    assert not arguments.out.exists()
