"""AutoNAT's ablations, at a size at which nothing is learned but everything runs as it should."""

import json

import pytest
import torch

import eval.ablations
import pretrain.strategy
from eval.ablations import Arguments, Laboratory, concurrent, report
from eval.evaluate import evaluate, reference
from eval.judges import bundle_judge
from nat_env.bundle import balanced_conditions
from nat_env.generate import generate
from nat_env.judging import judge_frechet_distance
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule
from pretrain.strategy import PROXY_SEED


@pytest.fixture
def arguments(tmp_path) -> Arguments:
    return Arguments(
        tmp_path,
        seeds=(0,),
        num_steps=2,
        epochs=0.2,
        images=140,  # seven scores: a base and the six probes of one gradient
        num_samples=20,
        evaluation_samples=66,
        turns=1,
        threads=1,
    )


def test_studies_share_models_and_go_on(arguments, tmp_path, monkeypatch):
    trained = []
    train = pretrain.strategy.train_transformer

    def spy(ids, labels, config, training, folder, seed):
        trained.append((training.mask_ratio, config.hidden_size))
        return train(ids, labels, config, training, folder, seed)

    monkeypatch.setattr(pretrain.strategy, "train_transformer", spy)
    text = report(arguments)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    found = {(row["study"], row["label"]): row["frechet_distance"] for row in rows}
    assert {study for study, _ in found} == set(eval.ablations.STUDIES)

    # A distance is what evaluating that model with that schedule gives.
    lab = Laboratory(arguments, 0)
    bundle = lab.proxies.trained("fixed(0.8)")
    policy = ScheduledPolicy(heuristic_schedule(2))
    again = evaluate(bundle, policy, 2, 66, 0, [reference(bundle, bundle_judge(bundle))])
    assert found["table-2", "fixed(0.8)"] == again.frechet_distances["digits-judge"]
    # The same model and schedule in two studies.
    assert (
        found["table-6a", "optimised training, heuristic generation"]
        == (found["appendix-A2", "heuristic, no search"])
    )
    assert found["table-6b", "after turn 1"] == found["table-6c", "alternating"]
    # The larger model is wider, and the small one's ratio trains it.
    small = lab.bundle.nat.transformer.config.hidden_size
    assert (lab.best_mask_ratio, 2 * small) in trained

    monkeypatch.setattr(eval.ablations, "evaluate", None)
    monkeypatch.setattr(pretrain.strategy, "generate", None)
    assert report(arguments) == text


def test_what_is_left_out_stays_as_the_heuristic_has_it(arguments, tmp_path):
    arguments = Arguments(**vars(arguments) | {"images": 160, "studies": ("table-6e",)})
    report(arguments)
    for column, name in enumerate(eval.ablations.COLUMNS):
        trials = tmp_path / f"seed0/searches/without_{name}/trials.json"
        tables = torch.tensor([row["table"] for row in json.loads(trials.read_text())])
        others = [c for c in range(4) if c != column]
        assert torch.equal(tables[..., column], heuristic_schedule(2).table[:, column].expand(8, 2))
        assert len(tables[..., others].unique(dim=0)) > 1


def test_a_concurrent_point_is_a_model_of_its_own(arguments, tmp_path):
    lab = Laboratory(arguments, 0)
    mask_ratio, schedule, images = concurrent(lab, 2)
    assert images == 2 * 1000
    scores = {}
    for path in (tmp_path / "seed0/concurrent").glob("*/trials.json"):
        scores |= dict(json.loads(path.read_text()))
    assert len(scores) == 2 and min(scores, key=lambda name: scores[name]) == mask_ratio.name
    bundle = lab.proxies.trained(mask_ratio.name)
    images = generate(
        bundle, ScheduledPolicy(schedule), balanced_conditions(1000, 10), 2, PROXY_SEED
    )
    assert judge_frechet_distance(bundle, images) == pytest.approx(scores[mask_ratio.name])


@pytest.mark.parametrize(
    ("name", "value"), [("studies", ("table-7",)), ("seeds", ()), ("turns", 0), ("images", 1)]
)
def test_bad_arguments_are_refused(arguments, name, value):
    with pytest.raises(ValueError, match=name):
        Arguments(**vars(arguments) | {name: value})
