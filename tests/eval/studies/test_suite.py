"""The papers' comparison: trials that resume, equal budgets, and the verdicts on the orderings."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import eval.studies.methods
import eval.studies.suite
from agents.learners.config import PRESETS
from agents.runs.checkpoint import load_policy
from agents.search.trials import read_trials
from eval.studies.arguments import Demo, Suite
from eval.studies.methods import GRID_TRIALS, GRIDS, METHODS
from eval.studies.suite import CLAIMS, SHARED, gains, orderings, suite
from eval.studies.trials import Trial
from nat_env.bundles.loading import bundle_folder, load_bundle
from nat_env.frozen.conditions import balanced_conditions
from nat_env.generation import StepRecord, generate
from nat_env.policies import ScheduledPolicy
from nat_env.samplers.entropy_bound import EntropyBound
from nat_env.schedules import Schedule
from nat_env.seeds import NAT_EVAL


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
        eval.studies.methods.METHODS,
        "not-adaptive-frechet",
        eval.studies.methods.training("", reward="frechet", num_envs=8, adaptive=False),
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
    assert "- adaptive against heuristic, frechet distance, digits-judge: " in report
    assert (
        "adaptive against the best shared schedule, " in report and "AdaNAT Table 5" not in report
    )

    def refuse(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(eval.studies.methods, "Training", refuse)
    monkeypatch.setattr(eval.studies.methods.search, "search", refuse)
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


def test_gains_are_against_the_heuristic_and_the_best_shared_schedule():
    distances = {
        "heuristic": (0.7, 0.9, 0.8), "cma": (0.8, 0.8, 0.9), "not-adaptive": (0.5, 0.6, 0.6),
        "adaptive": (0.3, 0.3, 0.5),
    }  # fmt: skip
    told = gains(rows_of(distances)).splitlines()
    for line, (name, rival) in zip(
        told,
        [(n, "heuristic") for n in ("cma", "not-adaptive", "adaptive")]
        + [("adaptive", "not-adaptive")],
        strict=True,
    ):
        ours, theirs = np.array(distances[name]), np.array(distances[rival])
        apart = ours - theirs
        half = stats.t.ppf(0.975, 2) * apart.std(ddof=1) / np.sqrt(3)
        low, high = apart.mean() - half, apart.mean() + half
        word = "better" if high < 0 else "worse" if low > 0 else "undecided"
        best = f"the best shared schedule, {rival}" if rival != "heuristic" else rival
        assert line == (
            f"- {name} against {best}, frechet distance, a: {ours.mean():.3g} against "
            f"{theirs.mean():.3g}, {100 * (ours.mean() / theirs.mean() - 1):+.0f} % **{word}**: "
            f"by {apart.mean():.3g} [{low:.3g}, {high:.3g}] in 3 seeds"
        )
    assert ["**better**" in line for line in told] == [False, True, True, False]
    assert gains(rows_of({"adaptive": (1.0,)})) == ""
    # The heuristic is a shared schedule, too.
    lower = gains(rows_of(distances | {"heuristic": (0.1, 0.1, 0.2)})).splitlines()
    assert lower[-1].startswith("- adaptive against the best shared schedule, heuristic, ")
    assert "**worse**" in lower[-1]


def test_gains_are_told_under_each_judge_and_by_alignment_once():
    rows = rows_of({"heuristic": (0.7, 0.9), "grid": (0.6, 0.6), "adaptive": (0.3, 0.3)})
    aligned = {"heuristic": (0.5, 0.5), "grid": (0.6, 0.7), "adaptive": (0.8, 0.9)}
    rows = [row | {"alignment": aligned[row["policy"]][row["seed"]]} for row in rows]
    rows += [row | {"judge": "b", "frechet_distance": row["seed"] + 1.0} for row in rows]
    told = gains(rows).splitlines()
    assert [line.split(": ")[0] for line in told] == [
        f"- {who}, {what}"
        for what, best in (
            ("frechet distance, a", "grid"), ("frechet distance, b", "heuristic"),
            ("alignment", "grid"),
        )
        for who in (
            "grid against heuristic", "adaptive against heuristic",
            f"adaptive against the best shared schedule, {best}",
        )
    ]  # fmt: skip
    assert told[-2].startswith(
        "- adaptive against heuristic, alignment: 0.85 against 0.5, +70 % **undecided**: by 0.35"
    )
    assert told[-1] == (
        "- adaptive against the best shared schedule, grid, alignment: 0.85 against 0.65, +31 % "
        "**better**: by 0.2 [0.2, 0.2] in 2 seeds"
    )


def test_the_recall_of_the_discriminator_is_held_against_the_pretrained_rewards():
    recalls = {"adaptive": (0.4, 0.3), "adaptive-pretrained": (0.25, 0.25)}
    assert gains(rows_of(recalls, "recall")).startswith(
        "- discriminator against pretrained reward, recall, a: 0.35 against 0.25, +40 % "
        "**undecided**: by 0.1 ["
    )


def test_a_hand_grid_spends_the_budget_that_the_others_have(arguments, tmp_path):
    asked = replace(arguments, methods=("grid", "cma"), seeds=(1,), budget=16 * 34 + 5)
    report = suite(asked)
    folder = tmp_path / "T2" / "grid" / "1"
    trials = json.loads((folder / "trials_T2.json").read_text())
    assert len(trials) == GRID_TRIALS == 16 and {t["num_samples"] for t in trials} == {34}
    assert {t["seed"] for t in trials} == {1}
    best = min(trials, key=lambda trial: trial["frechet_distance"])["schedule"]
    assert json.loads((folder / "best_T2.json").read_text())["name"] == f"best {best}"
    assert "heuristic(lambda=1, k=1, tau1=1)" in {trial["schedule"] for trial in trials}
    assert f"| grid | {METHODS['grid'].about} | 549 | 544 |" in report
    assert f"| cma | {METHODS['cma'].about} | 549 | 512 |" in report
    rows = json.loads((tmp_path / "T2" / "results.json").read_text())["rows"]
    assert [row["policy"] for row in rows] == ["heuristic", "grid", "cma"]
    assert "- grid against heuristic, frechet distance, digits-judge: " in report


def test_the_fields_samplers_are_tuned_by_as_many_trials(arguments, tmp_path):
    for name, grid in GRIDS.items():
        assert math.prod(len(values) for values in grid.values()) == GRID_TRIALS, name
    asked = replace(arguments, methods=("entropy-bound",), seeds=(1,), budget=16 * 34)
    report = suite(asked)
    best = Schedule.load(tmp_path / "T2" / "entropy-bound" / "1" / "best_T2.json")
    assert isinstance(best.sampler, EntropyBound)
    assert f"| entropy-bound | {METHODS['entropy-bound'].about} | 544 | 544 |" in report
    rows = json.loads((tmp_path / "T2" / "results.json").read_text())["rows"]
    bundle = load_bundle("digits", "float32")
    steps: list[StepRecord] = []
    conditions = balanced_conditions(40, len(bundle.conditions))
    seed = NAT_EVAL.seed_of(1)
    generate(bundle, ScheduledPolicy(best), conditions, 2, seed, on_step=steps.append)
    passes = torch.stack([step.passed for step in steps]).sum() / 40
    assert rows[1]["policy"] == "entropy-bound" and rows[1]["passes"] == pytest.approx(passes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("grid",)}, r"^budget: got 256, allowed with the method grid is >= 528;"),
        ({"methods": ("cma",), "budget": 255}, r"with the method cma is >= 256;"),
        (
            {"methods": ("cma", "adaptive"), "bundle": "fashion"},
            r"^budget: got 256, allowed is at least one round after 5 warm-up rounds of 256",
        ),
        ({"bundle": "paper"}, r"^bundle: got 'paper', allowed are digits"),
    ],
)
def test_what_a_search_could_not_do_is_refused_before_any_work(
    arguments, tmp_path, change, message
):
    with pytest.raises(ValueError, match=message):
        suite(replace(arguments, **change))
    assert not list(tmp_path.iterdir())


def test_a_bundle_of_ones_own_is_trained_with_the_preset_custom(arguments, tmp_path):
    folder = shutil.copytree(bundle_folder("digits"), tmp_path / "mine")
    own = replace(arguments, bundle=str(folder))
    assert own.preset == replace(PRESETS["custom"][1], bundle=str(folder))
    assert replace(arguments, bundle="digits").preset == PRESETS["digits"][1]
    assert Suite(tmp_path, bundle="emoji").preset == PRESETS["emoji"][1]
    assert Demo(bundle=str(folder)).bundle == str(folder)


def test_one_method_shares_no_network_with_a_judge(arguments, tmp_path, monkeypatch):
    """Its discriminator starts from random weights; else it is the method `adaptive`."""
    made = []

    class Stub:
        def __init__(self, config, progress, goes_on):
            made.append(config)

        def run(self):
            pass

    monkeypatch.setattr(eval.studies.methods, "Training", Stub)
    for name in ("adaptive", "adaptive-scratch"):
        METHODS[name].prepare(Trial(arguments, 4, 1, tmp_path / "trial"))
    scratch, trunk = made[1].discriminator, made[0].discriminator
    assert (scratch.trunk, trunk.trunk) == ("scratch", "bundle")
    assert replace(scratch, trunk="bundle", widths=trunk.widths) == trunk
    assert replace(made[1], discriminator=trunk) == made[0]


def test_claims_are_about_methods_there_are():
    assert {m for _, _, methods in CLAIMS for m in methods} <= METHODS.keys() | {"heuristic"}
    assert set(SHARED) <= METHODS.keys() | {"heuristic"}


def test_the_quick_form(tmp_path):
    quick = Suite(tmp_path, quick=True).resolved()
    assert (quick.num_steps, quick.seeds, quick.num_samples) == ((4,), (0,), 2000)
    assert quick.budget == 10_240
    full = Suite(tmp_path).resolved()
    assert full.budget == 15_360 and full.num_steps == (4, 8)


@pytest.mark.parametrize(
    ("name", "value"),
    [("methods", ("x",)), ("num_steps", ()), ("seeds", ()), ("seeds", (-1,))],
)
def test_bad_input_is_refused_before_any_work(arguments, name, value):
    with pytest.raises(ValueError, match=name.removesuffix("s")):
        replace(arguments, **{name: value})


@pytest.mark.parametrize("method", ["not-adaptive-from-grid", "adaptive-from-remdm"])
def test_a_training_from_a_grid_begins_at_its_best_and_spends_no_more(arguments, tmp_path, method):
    asked = replace(arguments, methods=(method,), seeds=(1,), budget=4 * 16 * 33 + 3)
    report = suite(asked)
    grid = method.rpartition("-")[2]
    run = tmp_path / "T2" / method / "1"
    trials = json.loads((run / grid / "trials_T2.json").read_text())
    assert {trial["num_samples"] for trial in trials} == {33} and len(trials) == 16
    best = min(trials, key=lambda trial: trial["frechet_distance"])["schedule"]
    begun = Schedule.load(run / "residual.json")
    assert begun.name == f"best {best}"
    rounds = (4 * 16 * 33 + 3 - 16 * 33) // 64
    last = json.loads((run / "results.json").read_text())["history"][-1]
    assert last["trajectories"] == rounds * 64
    assert f"| {asked.budget} | {16 * 33 + rounds * 64} |" in report
    policy = load_policy(run, load_bundle("digits"), "last")
    assert policy.sampler == (None if grid == "grid" else begun.sampler)
    assert (begun.sampler is None) == (grid == "grid")
