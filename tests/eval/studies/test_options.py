"""Options of nat-train compared: each training differs from the preset in what its name says."""

from dataclasses import asdict, replace

import pytest

import eval.studies.methods
from agents.learners.config import PRESETS
from eval.studies.arguments import Options
from eval.studies.learning import paired, trials_of
from eval.studies.options import CHANGES, changes_of, command

COMPUTATION = {
    "threads": 1, "dtype": "float32", "decoder_dtype": "bfloat16", "rows_per_pass": 32
}  # fmt: skip


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """Of the trainings that a comparison makes, by name."""
    made = {}

    class Recorder:
        def __init__(self, config, progress, goes_on):
            made[config.out.parent.name] = config

        def run(self):
            pass

    monkeypatch.setattr(eval.studies.methods, "Training", Recorder)
    arguments = Options(
        tmp_path, bundle="digits", seeds=(3,), eval_every=7, progress=False, **COMPUTATION
    )
    trials_of(arguments, CHANGES).make()
    return made


def test_one_thing_is_changed_at_a_time(configs):
    preset = PRESETS["digits"][1]
    expected = replace(preset, seed=3, eval_every=7, **COMPUTATION)
    assert list(configs) == list(CHANGES)
    for name, config in configs.items():
        changed = {
            option: value
            for option, value in asdict(config).items()
            if option != "out" and value != asdict(expected)[option]
        }
        assert changed == dict(CHANGES[name][1]), name
        assert bool(changed) == (name != "defaults")


def test_a_whole_round_is_as_long_as_the_study_s_episodes(tmp_path):
    assert changes_of(Options(tmp_path)) == CHANGES  # of 256 episodes of 4 steps
    two = changes_of(Options(tmp_path, num_steps=2))
    assert two.pop("whole-rounds")[1] == {"batch_size": 512}
    assert two.items() <= CHANGES.items()


def test_the_paper_s_values_are_those_of_its_preset():
    paper = PRESETS["paper"][1]
    of_the_paper = [name for name, (about, _) in CHANGES.items() if "the paper" in about]
    for name in of_the_paper:
        for option, value in CHANGES[name][1].items():
            if name != "whole-rounds":  # of 256 trajectories here, of 4,096 there
                assert getattr(paper, option) == value
    assert len(of_the_paper) == 7


@pytest.mark.parametrize(
    ("name", "value"), [("changes", ("learning-rate",)), ("eval_every", 0), ("budget", 100)]
)
def test_bad_input_is_refused_before_any_work(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        command(Options(tmp_path / "out", bundle="digits", **{name: value}))
    assert not (tmp_path / "out").exists()


def test_trainings_are_paired_with_the_heuristic_and_with_the_first_by_seed():
    distances = {
        "heuristic": {0: 4.0, 1: 6.0},
        "defaults": {0: 2.0, 1: 3.0},
        "map": {0: 1.0, 1: 3.0},  # by -1 and 0 from the defaults: half of a t interval is 6.35
    }
    rows = [
        {"policy": policy, "seed": seed, "judge": "a judge", "frechet_distance": value}
        for policy, values in distances.items()
        for seed, value in values.items()
    ]
    assert paired(rows, ["defaults", "map"]).splitlines()[2:] == [
        "- defaults against heuristic, a judge: 2.5 against 5, -50 % **undecided**: "
        "by -2.5 [-8.85, 3.85] in 2 seeds",
        "- map against heuristic, a judge: 2 against 5, -60 % **better**: "
        "by -3 [-3, -3] in 2 seeds",
        "- map against defaults, a judge: 2 against 2.5, -20 % **undecided**: "
        "by -0.5 [-6.85, 5.85] in 2 seeds",
    ]
    assert paired(rows[:2], ["defaults"]) == ""
