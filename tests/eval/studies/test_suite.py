"""The papers' comparison: trials that resume, equal budgets, and the verdicts on the orderings."""

import json
from dataclasses import replace

import pytest

import eval.studies.suite
import eval.studies.trials
from agents.search.trials import read_trials
from eval.studies.arguments import Suite
from eval.studies.suite import CLAIMS, METHODS, NOT_ADAPTIVE, gains, orderings, suite
from eval.studies.trials import Trial


@pytest.fixture
def arguments(tmp_path, small_preset) -> Suite:
    return Suite(
        tmp_path,
        bundle="digits",
        methods=("adaptive", "not-adaptive-frechet", "cma"),
        num_steps=(2,),
        seeds=(0, 1),
        budget=256,
        num_samples=40,
        judges=(),
        threads=1,
        progress=False,
    )


def test_every_trial_is_made_once_with_the_same_budget(arguments, tmp_path, monkeypatch):
    monkeypatch.setitem(
        eval.studies.suite.METHODS,
        "not-adaptive-frechet",
        eval.studies.suite.training("", reward="frechet", num_envs=8, adaptive=False),
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
        assert read_trials(folder / "cma" / str(seed))[-1]["images"] == 256
    # Each seed has a training of its own.
    policies = {r["policy_fingerprint"] for r in rows if r["policy"] == "adaptive"}
    assert len(policies) == 2
    assert "against the best that is not, " in report and "AdaNAT Table 5" not in report

    def refuse(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(eval.studies.trials, "Training", refuse)
    monkeypatch.setattr(eval.studies.suite.search, "search", refuse)
    assert suite(arguments) == report
    with pytest.raises(AssertionError, match="made again"):
        suite(replace(arguments, seeds=(0, 1, 2)))
    with pytest.raises(ValueError, match="was made with images = 256, now 288 is asked for"):
        suite(replace(arguments, budget=288))

    # What is committed of a trial: that it was done, and its rows.
    (folder / "adaptive" / "1" / "last.safetensors").unlink()
    assert suite(arguments) == report
    with pytest.raises(ValueError, match=r"the file of 'adaptive', seed 1, is gone"):
        suite(replace(arguments, num_samples=42, seeds=(0, 1, 2)))


def rows_of(values, quantity="frechet_distance"):
    about = {"judge": "a", "num_samples": 10}
    return [
        about | {"policy": policy, "seed": seed, quantity: value}
        for policy, of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    ]


def test_orderings_are_judged_under_each_judge_on_the_seeds_that_all_have():
    rows = rows_of(
        {"heuristic": (0.8, 0.6), "not-adaptive": (0.4, 0.7), "adaptive": (0.3, 0.6, 9.0)}
    )
    rows += [row | {"judge": "b", "frechet_distance": float(row["seed"])} for row in rows]
    first, second = orderings(rows).splitlines()
    assert first == (
        "- AdaNAT Table 5, frechet distance, a: adaptive (3.3) < not-adaptive (0.55) "
        "< heuristic (0.7) **undecided**: adaptive < not-adaptive by 0.1 [0.1, 0.1] in 2 seeds; "
        "not-adaptive < heuristic by 0.15 [-3.03, 3.33] in 2 seeds"
    )
    assert ", b: " in second and "**undecided**: adaptive < not-adaptive by 0 [0, 0]" in second
    assert orderings([row for row in rows if row["policy"] != "adaptive"]) == ""


def test_orderings_of_the_papers_tables():
    """With the papers' own numbers, in every seed, every ordering about a distance holds."""
    for table in (
        {"heuristic": 7.65, "not-adaptive": 5.40, "adaptive": 4.54},
        {"adaptive-frechet": 55.4, "not-adaptive-frechet": 2.56},
        {"autonat": 2.68, "not-adaptive-frechet": 2.56, "adaptive": 2.86},
        {"heuristic": 8.40, "autonat": 5.21},
    ):
        text = orderings(rows_of({name: (value, value + 0.1) for name, value in table.items()}))
        assert text.count("**holds**") == 1 and text.count("\n") == 0


def test_gains_are_against_the_best_that_is_not_adaptive():
    distances = {"adaptive": (0.3, 0.5), "not-adaptive": (0.6, 0.4), "cma": (0.8, 0.9)}
    rows = rows_of(distances | {"heuristic": (0.1, 0.1)})
    rows += rows_of({"adaptive-pretrained": (0.25, 0.25)}, "recall")
    recalls = {0: 0.4, 1: 0.3}
    rows = [r | {"recall": recalls[r["seed"]]} if r["policy"] == "adaptive" else r for r in rows]
    assert gains(rows).splitlines() == [
        "- adaptive against the best that is not, not-adaptive, frechet distance, a: "
        "0.4 against 0.5, -20 %",
        "- discriminator against pretrained reward, recall, a: 0.350 against 0.250, +0.100",
    ]
    assert gains(rows_of({"adaptive": (1.0,)})) == ""


def test_one_method_shares_no_network_with_a_judge(arguments, tmp_path, monkeypatch):
    """Its discriminator starts from random weights; else it is the method `adaptive`."""
    made = []

    class Stub:
        def __init__(self, config, progress, goes_on):
            made.append(config)

        def run(self):
            pass

    monkeypatch.setattr(eval.studies.trials, "Training", Stub)
    for name in ("adaptive", "adaptive-scratch"):
        METHODS[name].prepare(Trial(arguments, 4, 1, tmp_path / "trial"))
    scratch, trunk = made[1].discriminator, made[0].discriminator
    assert (scratch.trunk, trunk.trunk) == ("scratch", "bundle")
    assert replace(scratch, trunk="bundle", widths=trunk.widths) == trunk
    assert replace(made[1], discriminator=trunk) == made[0]


def test_claims_are_about_methods_there_are():
    assert {m for _, _, methods in CLAIMS for m in methods} <= METHODS.keys() | {"heuristic"}
    assert set(NOT_ADAPTIVE) <= METHODS.keys()


def test_the_quick_form(tmp_path):
    quick = Suite(tmp_path, quick=True).resolved()
    assert (quick.num_steps, quick.seeds, quick.num_samples) == ((4,), (0,), 2000)
    assert quick.budget == 10_240
    full = Suite(tmp_path).resolved()
    assert full.budget == 15_360 and full.num_steps == (4, 8)


@pytest.mark.parametrize(
    ("name", "value"),
    [("bundle", "paper"), ("methods", ("x",)), ("num_steps", ()), ("seeds", ()), ("seeds", (-1,))],
)
def test_bad_input_is_refused_before_any_work(arguments, name, value):
    with pytest.raises(ValueError, match=name.removesuffix("s")):
        replace(arguments, **{name: value})
