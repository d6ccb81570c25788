"""nat-tune: what is given up, what is found, and going on; the trainings are stubs but for one."""

import errno
import json
import math
import os
import shlex
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import ClassVar

import optuna
import pytest
import tyro
from optuna.trial import TrialState

import agents.tuning.tune
from agents.learners.algorithms import ALGORITHMS
from agents.learners.config import PRESETS
from agents.tuning.arguments import Tune
from agents.tuning.spaces import SPACES, Span, with_options
from agents.tuning.study import STUDY
from agents.tuning.tune import check, score, tune, usual_options
from nat_env.bundles.loading import bundle_folder
from nat_env.commands import entry

ROUNDS = (10, 15, 20, 25, 30, 35, 40)  # after 5 of warm-up, every 5 of the half of 80


@pytest.fixture
def arguments(tmp_path) -> Tune:
    return Tune("digits", tmp_path / "out", algo="a2c", trials=12, unpruned=3, threads=1)


class Stub:
    """A training whose FD is how far the learning rate is from 0.003, in powers of ten."""

    configs: ClassVar[list] = []
    stop_at = None
    """(trial, round) where the power fails."""

    def __init__(self, config, progress, on_evaluation, goes_on):
        config.out.mkdir(exist_ok=True)
        assert config.resume == (config.out / "config.json").exists()
        (config.out / "config.json").write_text("{}")
        self.config, self.on_evaluation = config, on_evaluation
        self.configs.append(config)

    def run(self):
        distance = abs(math.log10(self.config.algo_options["learning_rate"] / 0.003))
        history = []
        for number in (0, 5, *ROUNDS):
            # Those of the policy that has not learned yet would be the best of all.
            value = distance if number > 5 else 0.0
            history.append({"round": number, "trajectories": 256 * number})
            history[-1]["frechet_distance"] = value
            self.on_evaluation(history[-1])
            if self.stop_at == (self.config.out.name, number):
                raise KeyboardInterrupt
        return {"history": history}


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(Stub, "configs", [])
    monkeypatch.setattr(agents.tuning.tune, "Training", Stub)
    return Stub


def stored(arguments):
    """The trials in the folder."""
    backend = optuna.storages.journal.JournalFileBackend(str(arguments.out / STUDY))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name="nat-tune", storage=storage).trials


def test_the_median_rule_the_best_and_its_command(arguments, stub):
    best = tune(arguments)
    trials = stored(arguments)
    assert len(trials) == len(stub.configs) == 12
    completed = []
    for trial, config in zip(trials, stub.configs, strict=True):
        value = abs(math.log10(config.algo_options["learning_rate"] / 0.003))
        pruned = len(completed) >= 3 and value > median(completed)
        assert trial.state == (TrialState.PRUNED if pruned else TrialState.COMPLETE)
        assert list(trial.intermediate_values) == list(ROUNDS[:1] if pruned else ROUNDS[:-1])
        if not pruned:
            assert trial.value == pytest.approx(value)
            completed.append(value)
    assert {t.state for t in trials} == {TrialState.PRUNED, TrialState.COMPLETE}
    assert stub.configs[0].algo_options["learning_rate"] == 7e-4  # as A2C comes
    assert best["score"] == pytest.approx(min(completed)) and best["score"] < completed[0]
    assert json.loads((arguments.out / "best.json").read_text()) == best
    program, *words = shlex.split(best["command"])
    assert program == "nat-train"
    asked = tyro.extras.overridable_config_cli(PRESETS, args=words)
    tried = replace(stub.configs[best["trial"]], out=arguments.out / "best")
    preset = PRESETS["digits"][1]
    full = {"budget": preset.budget, "eval_every": preset.eval_every}
    assert asked == replace(tried, threads=preset.threads, **full)


def test_a_stopped_study_goes_on_as_if_it_had_not_been(arguments, stub, monkeypatch):
    whole = replace(arguments, out=arguments.out / "whole", trials=6)
    expected = tune(whole)
    monkeypatch.setattr(Stub, "stop_at", ("003", ROUNDS[2]))
    broken = replace(whole, out=arguments.out / "broken")
    with pytest.raises(KeyboardInterrupt):
        tune(broken)
    monkeypatch.setattr(Stub, "stop_at", None)
    assert not (broken.out / "004").exists()
    with (broken.out / STUDY).open("a") as log:
        log.write('{"op_code": 8, "wor')  # as much as a full disk took
    tune(replace(broken, trials=5))
    found = tune(broken)
    for left, right in zip(stored(whole), stored(broken), strict=True):
        assert (left.params, left.value, left.state) == (right.params, right.value, right.state)
        assert left.intermediate_values == right.intermediate_values
    assert (found["trial"], found["options"]) == (expected["trial"], expected["options"])
    count = len(stub.configs)
    assert tune(broken) == found and len(stub.configs) == count
    for change in ({"seed": 1}, {"scored": 2}, {"algo": "sac"}, {"budget": 5120}):
        with pytest.raises(ValueError, match=r"^out: .* was made with .* is asked for"):
            tune(replace(broken, **change))


def test_a_bundle_of_ones_own_has_a_preset(arguments, stub):
    with pytest.raises(ValueError, match=r"^bundle: got none, allowed with the preset custom"):
        Tune("custom", arguments.out)
    custom = replace(arguments, preset="custom", bundle=str(bundle_folder("digits")), trials=1)
    best = tune(custom)
    program, *words = shlex.split(best["command"])
    asked = tyro.extras.overridable_config_cli(PRESETS, args=words)
    assert (program, words[0], asked.bundle) == ("nat-train", "custom", custom.bundle)
    assert stub.configs[0].hidden_size == PRESETS["fashion"][1].hidden_size


def test_a_full_disk_in_a_training_ends_with_what_goes_on(arguments, monkeypatch):
    def full(path, state):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    small = {"num_steps": 1, "eval_every": 1, "budget": 6 * 256, "scored": 1, "trials": 1}
    with monkeypatch.context() as patch:
        patch.setattr("agents.training.callbacks.save_state", full)
        with pytest.raises(OSError, match=r"No space left.*; the same nat-tune goes on$"):
            tune(replace(arguments, **small))
    assert [trial.state for trial in stored(arguments)] == [TrialState.RUNNING]


def test_a_training_that_diverges_is_a_trial_that_failed(arguments, stub, monkeypatch):
    run = Stub.run

    def diverge(self):
        if self.config.out.name == "001":
            raise ValueError("Normal: loc is NaN")
        return run(self)

    monkeypatch.setattr(Stub, "run", diverge)
    tune(replace(arguments, trials=3))
    states = [trial.state for trial in stored(arguments)]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]


def test_the_score_is_the_mean_of_the_last_and_leaves_the_warm_up_out(arguments):
    rows = [
        {"round": number, "trajectories": 0, "frechet_distance": float(number)}
        for number in (0, 5, *ROUNDS)
    ]
    assert score(arguments.training, rows, 3) == (30 + 35 + 40) / 3
    assert score(arguments.training, rows[:4], 3) == (10 + 15) / 2


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_the_usual_options_lie_in_the_search_space(algo):
    for preset in ("fashion", "digits"):
        config = Tune(preset, Path("out"), algo=algo).training
        usual, space = usual_options(config), SPACES[algo]
        for name, values in space.items():
            if isinstance(values, Span):
                assert values.low < usual[name] < values.high, name
                assert isinstance(usual[name], type(values.low)), name
            else:
                assert usual[name] in values, name
        assert with_options(config, usual).budget == config.budget


def test_a_small_study_of_trainings(arguments, small_preset, monkeypatch, capsys):
    preset = replace(PRESETS["digits"][1], budget=512, hidden_size=128, batch_size=256)
    monkeypatch.setitem(PRESETS, "digits", ("", preset))
    words = ["digits", "--algo", "a2c", "--trials", "2", "--num-steps", "2", "--eval-every", "1"]
    words += ["--scored", "2", "--threads", "1", "--out", str(arguments.out)]
    monkeypatch.setattr("sys.argv", ["nat-tune", *words])
    entry.tune()
    best = json.loads((arguments.out / "best.json").read_text())
    scores = []
    for trial in stored(arguments):
        folder = arguments.out / f"{trial.number:03d}"
        history = json.loads((folder / "results.json").read_text())["history"]
        assert [row["round"] for row in history] == [0, 1, 2, 3, 4]
        scores.append(sum(row["frechet_distance"] for row in history[-2:]) / 2)
        assert trial.value == pytest.approx(scores[-1])
        assert trial.intermediate_values == {
            row["round"]: row["frechet_distance"] for row in history[2:4]
        }
    assert best["score"] == pytest.approx(min(scores))
    assert best["command"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("preset", "paper"),
        ("algo", "dqn"),
        ("trials", 0),
        ("budget", 100),
        ("num_steps", 0),
        ("scored", 8),
        ("unpruned", 0),
        ("threads", 0),
    ],
)
def test_bad_input_is_refused_before_any_work(arguments, name, value):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        check(replace(arguments, **{name: value}))
    assert not arguments.out.exists()
