"""AutoNAT's Algorithm 1 on proxies of the digits bundle."""

import json
from dataclasses import replace

import pytest

import agents.search.objective
import pretrain.strategy
from agents.search.trials import read_trials
from eval.autonat.alternation import alternate
from eval.autonat.arguments import Alternation
from nat_env.schedules import Schedule
from pretrain.arguments import MaskRatio


@pytest.fixture
def arguments(tmp_path) -> Alternation:
    return Alternation(
        tmp_path / "alternation",
        epochs=0.2,
        num_steps=1,
        budget=136,  # four scores: a base, its two probes, and an update
        search_samples=34,
        proxy_samples=34,
        turns=2,
        tolerance=0.0,
        threads=1,
    )


def test_turns_alternate_count_and_resume(arguments, tmp_path, monkeypatch):
    out = arguments.out
    trained = []
    train = pretrain.strategy.train_transformer

    def spy(ids, labels, config, training, folder, seed, device):
        trained.append(training.mask_ratio)
        return train(ids, labels, config, training, folder, seed, device)

    monkeypatch.setattr(pretrain.strategy, "train_transformer", spy)
    rows = alternate(arguments)
    assert [row["turn"] for row in rows] == [1, 2]
    for turn, row in enumerate(rows):
        trials = dict(json.loads((out / f"turn{turn}/training/trials.json").read_text()))
        assert row["frechet_distance"] == min(trials.values()) == trials[row["mask_ratio"]]
        searched = read_trials(out / f"turn{turn}/generation")
        assert searched[-1]["images"] == 136
        assert row["updates"] == turn + 1
        before = rows[turn - 1]["images"] if turn else 0
        assert row["images"] == before + 136 + 34 * len(trials)
    # The second search begins with what the first one found, on the model of the last turn.
    assert searched[0]["table"] == rows[0]["schedule"]
    assert Schedule.load(out / "schedule.json").table.tolist() == rows[1]["schedule"]
    assert rows[1]["proxy_trainings"] == len(set(trained))

    monkeypatch.setattr(pretrain.strategy.ProxyObjective, "__call__", lookup)
    monkeypatch.setattr(agents.search.objective, "generate_batches", None)
    assert alternate(arguments) == rows
    moved = replace(arguments, out=out.rename(tmp_path / "moved"))
    assert alternate(moved) == rows


def lookup(self, mask_ratio):
    return self.trials[mask_ratio.name]  # fails where something is computed again


def test_it_ends_when_nothing_changes_any_more(arguments):
    assert len(alternate(replace(arguments, turns=4, tolerance=1e9))) == 2


def test_a_folder_belongs_to_one_alternation(arguments):
    alternate(replace(arguments, turns=1, dtype="float32"))
    with pytest.raises(ValueError, match=r"^out: .* with start\.ratio = 2\.0, now 1\.0 is"):
        alternate(replace(arguments, start=MaskRatio(1.0, 1.0), dtype="float32"))
    with pytest.raises(ValueError, match=r"^out: .* with dtype = 'float32', now 'bfloat16' is"):
        alternate(replace(arguments, dtype="bfloat16"))


@pytest.mark.parametrize("name", ["search_samples", "proxy_samples"])
def test_too_few_samples_are_refused_before_any_training(arguments, name):
    with pytest.raises(ValueError, match=rf"^{name}: got 32, allowed is > 32, .* digits-judge"):
        alternate(replace(arguments, **{name: 32}))
    assert not arguments.out.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("turns", 0), ("epochs", 0.0), ("num_steps", 0), ("tolerance", -1.0), ("seed", -1)],
)
def test_bad_numbers_are_refused(arguments, name, value):
    with pytest.raises(ValueError, match=name):
        replace(arguments, **{name: value})
    assert not arguments.out.exists()
