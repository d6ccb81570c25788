"""Options of nat-train compared: each training differs from the preset in what its name says."""

from dataclasses import asdict, replace

import pytest

import eval.studies.methods
from agents.learners.config import PRESETS
from eval.studies.arguments import Options
from eval.studies.learning import trials_of
from eval.studies.options import CHANGES, command


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
        tmp_path, bundle="digits", seeds=(3,), eval_every=7, threads=1, progress=False
    )
    trials_of(arguments, CHANGES).make()
    return made


def test_one_thing_is_changed_at_a_time(configs):
    preset = PRESETS["digits"][1]
    expected = replace(preset, seed=3, threads=1, eval_every=7)
    assert list(configs) == list(CHANGES)
    for name, config in configs.items():
        changed = {
            option: value
            for option, value in asdict(config).items()
            if option != "out" and value != asdict(expected)[option]
        }
        assert changed == dict(CHANGES[name][1]), name
        assert bool(changed) == (name != "defaults")


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
