"""AutoNAT's search for the mask-ratio distribution."""

import json

import pytest
import torch

import pretrain.strategy
from nat_env.bundles.loading import load_bundle
from nat_env.models.uvit import UViT
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule
from pretrain.arguments import MaskRatio
from pretrain.loop import LoopConfig
from pretrain.strategy import Proxies, ProxyObjective, greedy_search
from pretrain.transformer import TransformerTraining, sample_mask_ratio


def quadratic(ratio, beta, skew=0.0):
    calls = []

    def objective(m):
        calls.append((m.ratio, m.beta))
        x, y = m.ratio - ratio, m.beta - beta
        return x**2 + y**2 + skew * x * y

    return objective, calls


@pytest.mark.parametrize("skew", [0.0, 0.8, -0.8])
def test_the_minimum_of_a_convex_function_is_found_and_nothing_is_tried_twice(skew):
    objective, calls = quadratic(5.0, 4.0, skew)
    best, value = greedy_search(objective)
    grid = {
        (float(r), float(b)): quadratic(5.0, 4.0, skew)[0](MaskRatio(r, b))
        for r in range(1, 10)
        for b in range(1, 10)
    }
    assert value == min(grid.values()) == grid[best.ratio, best.beta]
    assert len(calls) == len(set(calls)) < 25


def test_the_path_by_hand():
    objective, calls = quadratic(3.0, 1.0)
    greedy_search(objective)
    # ratio up to 3 and no further; beta is at its best already, and cannot reach 0.
    assert calls == [(3.0, 1.0), (2.0, 1.0), (4.0, 1.0), (3.0, 2.0)]


def test_it_walks_down_as_well_and_stays_above_zero():
    objective, calls = quadratic(-3.0, 0.4)
    best, _ = greedy_search(objective, MaskRatio(4.0, 2.0))
    assert (best.ratio, best.beta) == (1.0, 1.0)
    assert min(min(call) for call in calls) > 0
    with pytest.raises(ValueError, match="allowed are finite numbers > 0"):
        greedy_search(objective, step=0.0)


@pytest.mark.parametrize("ratio", [4.0, 5e-5, 2e6])
def test_a_distribution_is_trained_under_as_it_is_named(ratio):
    torch.manual_seed(0)
    found = sample_mask_ratio(MaskRatio(ratio, 1.0).name, 5)
    torch.manual_seed(0)
    assert torch.equal(found, torch.distributions.Beta(ratio, 1.0).sample((5,)))


@pytest.fixture
def proxies(tmp_path) -> Proxies:
    bundle = load_bundle("digits", dtype="float32")
    loop = LoopConfig(epochs=0.5, batch_size=64, warmup_steps=2)
    training = TransformerTraining(loop=loop)
    folder = tmp_path / "proxies"
    return Proxies(bundle, bundle.reals.ids, bundle.reals.conditions, training, folder)


def objective_of(proxies, folder, num_samples=50):
    policy = ScheduledPolicy(heuristic_schedule(2))
    return ProxyObjective(proxies, policy, 2, num_samples, folder)


def test_a_trial_trains_under_its_distribution_and_is_not_repeated(proxies, tmp_path, monkeypatch):
    used = []
    train = pretrain.strategy.train_transformer

    def spy(ids, labels, config, training, folder, seed, execution):
        used.append((training.mask_ratio, folder.name))
        return train(ids, labels, config, training, folder, seed, execution)

    monkeypatch.setattr(pretrain.strategy, "train_transformer", spy)
    before = [p.clone() for p in proxies.bundle.nat.transformer.parameters()]
    objective = objective_of(proxies, tmp_path)
    values = [objective(MaskRatio(r, 2.0)) for r in (1.0, 4.0, 1.0)]
    assert used == [("beta(2, 2)", "beta_2_2"), ("beta(8, 2)", "beta_8_2")]
    assert values[0] == values[2] != values[1]
    assert dict(json.loads((tmp_path / "trials.json").read_text())) == objective.trials
    after = proxies.bundle.nat.transformer.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    prints = {proxies.trained(f"beta({a}, 2)").fingerprint for a in (2, 8)}
    assert len(prints | {proxies.bundle.fingerprint}) == 3

    (tmp_path / "trials.json").unlink()
    again = objective_of(proxies, tmp_path)
    assert again(MaskRatio(4.0, 2.0)) == values[1]  # the trained proxy was kept


def test_a_proxy_is_trained_where_the_bundle_is_and_runs_in_its_dtype(
    proxies, tmp_path, monkeypatch
):
    proxies.bundle = load_bundle("digits", dtype="bfloat16")
    given = []

    def train(ids, labels, config, training, folder, seed, execution):
        given.append(execution.device)
        return UViT(config)

    monkeypatch.setattr(pretrain.strategy, "train_transformer", train)
    monkeypatch.setattr(proxies.bundle.nat, "device", torch.device("meta"))
    found = proxies.trained("arccos")
    assert given == [torch.device("meta")]
    assert (found.dtype, found.device) == ("bfloat16", torch.device("meta"))


def test_a_trial_holds_a_batch_of_images_however_many_it_is_of(
    proxies, tmp_path, images_alive, monkeypatch
):
    monkeypatch.setattr(proxies, "trained", lambda mask_ratio: proxies.bundle)
    alive = images_alive(proxies.bundle)
    objective_of(proxies, tmp_path, num_samples=400)(MaskRatio(2.0, 1.0))
    assert len(alive) == 4 and max(alive) <= 128


def test_the_model_of_another_training_is_refused(proxies):
    kept = proxies.trained("arccos")
    assert proxies.trained("arccos").fingerprint == kept.fingerprint
    proxies.seed += 1
    with pytest.raises(ValueError, match=r"^folder: .*arccos.* with seed = 0, now 1 is asked for"):
        proxies.trained("arccos")


def test_bad_input(proxies, tmp_path):
    (tmp_path / "trials.json").write_text("{")
    with pytest.raises(ValueError, match=r"trials.json is damaged"):
        objective_of(proxies, tmp_path)
    with pytest.raises(ValueError, match=r"^num_samples: got 32, allowed is > 32, .* digits-judge"):
        objective_of(proxies, tmp_path, num_samples=32)
    (tmp_path / "trials.json").unlink()
    objective_of(proxies, tmp_path, num_samples=33)
    with pytest.raises(ValueError, match="mask_ratio"):
        proxies.trained("x")
