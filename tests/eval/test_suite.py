"""The papers' comparison: trials that resume, equal budgets, and the verdicts on the orderings."""

import json
from dataclasses import replace

import pytest

import eval.suite
import eval.trials
from agents.config import PRESETS
from eval.suite import CLAIMS, METHODS, Arguments, orderings, suite


@pytest.fixture
def arguments(tmp_path, monkeypatch) -> Arguments:
    small = replace(
        PRESETS["digits"][1],
        trajectories_per_round=32,
        num_envs=16,
        hidden_size=16,
        batch_size=32,
        warmup_rounds=1,
        eval_samples=50,
    )
    monkeypatch.setitem(PRESETS, "digits", ("", small))
    return Arguments(
        tmp_path,
        bundle="digits",
        methods=("adaptive", "not-adaptive-frechet", "cma"),
        num_steps=(2,),
        seeds=(0, 1),
        images=256,
        num_samples=40,
        second_judge=False,
        threads=1,
        progress=False,
    )


def test_every_trial_is_made_once_with_the_same_budget(arguments, tmp_path, monkeypatch):
    monkeypatch.setitem(
        eval.suite.METHODS,
        "not-adaptive-frechet",
        eval.suite.training("", reward="frechet", num_envs=8, adaptive=False),
    )
    report = suite(arguments)
    folder = tmp_path / "T2"
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert {(row["policy"], row["seed"]) for row in rows} == {
        (name, seed) for name in ("heuristic", *arguments.methods) for seed in (0, 1)
    }
    assert all("recall" in row for row in rows)
    for seed in (0, 1):
        history = json.loads((folder / "adaptive" / str(seed) / "results.json").read_text())
        assert history["history"][-1]["trajectories"] == 256
        trials = json.loads((folder / "cma" / str(seed) / "trials.json").read_text())
        assert trials[-1]["images"] == 256
    # Each seed has a training of its own.
    policies = {r["policy_fingerprint"] for r in rows if r["policy"] == "adaptive"}
    assert len(policies) == 2
    assert "AdaNAT appendix D" in report and "AdaNAT Table 5" not in report

    def refuse(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(eval.trials, "Training", refuse)
    monkeypatch.setattr(eval.suite.search, "search", refuse)
    assert suite(arguments) == report
    with pytest.raises(AssertionError, match="made again"):
        suite(replace(arguments, seeds=(0, 1, 2)))
    with pytest.raises(ValueError, match="was made with images = 256, now 288 is asked for"):
        suite(replace(arguments, images=288))

    # What is committed of a trial: that it was done, and its rows.
    (folder / "adaptive" / "1" / "last.safetensors").unlink()
    assert suite(arguments) == report
    with pytest.raises(ValueError, match=r"the file of 'adaptive', seed 1, is gone"):
        suite(replace(arguments, num_samples=42, seeds=(0, 1, 2)))


def test_orderings_are_by_means_under_each_judge():
    values = {"heuristic": (0.8, 0.6), "not-adaptive": (0.4, 0.7), "adaptive": (0.5, 0.4)}
    about = {"judge": "a", "num_samples": 10}
    rows = [
        about | {"policy": p, "seed": s, "frechet_distance": v}
        for p, both in values.items()
        for s, v in enumerate(both)
    ]
    rows += [row | {"judge": "b", "frechet_distance": 1.0} for row in rows]
    (text,) = orderings(rows)
    first, second = text.splitlines()
    assert first == (
        "- AdaNAT Table 5, frechet distance, a: adaptive (0.45) < not-adaptive (0.55) "
        "< heuristic (0.7) **holds**, in 0 of 2 seeds"
    )
    assert ", b: " in second and second.endswith("**does NOT hold**, in 0 of 2 seeds")
    assert orderings([row for row in rows if row["policy"] != "adaptive"]) == []


def test_claims_are_about_methods_there_are():
    assert {m for _, _, methods in CLAIMS for m in methods} <= METHODS.keys() | {"heuristic"}


def test_the_quick_form(tmp_path):
    quick = Arguments(tmp_path, quick=True).resolved()
    assert (quick.num_steps, quick.seeds, quick.num_samples) == ((4,), (0,), 2000)
    assert quick.images == 10_240
    full = Arguments(tmp_path).resolved()
    assert full.images == 15_360 and full.methods == tuple(METHODS)


@pytest.mark.parametrize(
    ("name", "value"),
    [("bundle", "paper"), ("methods", ("x",)), ("num_steps", ()), ("seeds", ()), ("seeds", (-1,))],
)
def test_bad_input_is_refused_before_any_work(arguments, name, value):
    with pytest.raises(ValueError, match=name.removesuffix("s")):
        replace(arguments, **{name: value})
