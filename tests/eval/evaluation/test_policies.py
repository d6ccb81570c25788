"""Policies by name, which bundle they are for, and the shuffled policy."""

import json
import shutil

import numpy as np
import pytest
import torch

from agents.runs.checkpoint import load_policy
from agents.sharing.names import chosen_bundle, named_policy, own_num_steps
from eval.evaluation.fingerprint import policy_fingerprint
from eval.evaluation.policies import ShuffledPolicy, is_trained_by
from nat_env.bundles.loading import bundle_folder
from nat_env.generation import generate
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import Schedule, heuristic_schedule


def all_steps(policy, num_steps: int, rows: int = 6) -> torch.Tensor:
    """Actions [T, rows, 4] on fixed features of digits' size."""
    features = torch.randn(rows, 16, 64, generator=torch.Generator().manual_seed(0))
    steps = [torch.full((rows,), step) for step in range(num_steps)]
    return torch.stack([policy(features, step) for step in steps])


@pytest.mark.parametrize(
    ("spec", "name", "numbers"),
    [
        ("heuristic", "heuristic", (1.0, 1.0, 1.0)),
        ("heuristic(2, 0.5, 0.8)", "heuristic(lambda=2, k=0.5, tau1=0.8)", (2.0, 0.5, 0.8)),
        (" heuristic(1,0,1e-1)", "heuristic(lambda=1, k=0, tau1=0.1)", (1.0, 0.0, 0.1)),
    ],
)
def test_heuristics(digits, spec, name, numbers):
    got_name, policy = named_policy(spec, digits, num_steps=3)
    assert got_name == name
    table = heuristic_schedule(3, *numbers).table
    assert torch.equal(all_steps(policy, 3)[:, 0], table)


def test_a_schedules_file(digits, tmp_path):
    table = torch.rand(5, 4, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "mine.json"
    Schedule(table, "mine").save(path)
    name, policy = named_policy(str(path), digits, num_steps=5)
    assert name == str(path)
    assert torch.equal(all_steps(policy, 5)[:, 3], table)


def test_a_strategy_file_of_autonats_authors(digits, tmp_path):
    path = tmp_path / "strategy.yaml"
    path.write_text(
        "manual_ratios: [0.6]\nmanual_temp: [2.0]\n"
        "manual_samp_temp: [1.5, 0.7]\nmanual_cfg: [0.1, 1.2]\n"
    )
    assert own_num_steps(str(path)) == 2
    policy = named_policy(str(path), digits, num_steps=2)[1]
    expected = torch.tensor([[0.6, 1.5, 2.0, 0.1], [0.0, 0.7, 0.0, 1.2]])
    assert torch.equal(all_steps(policy, 2)[:, 3], expected)


def test_a_run_folder(digits, make_run):
    run = make_run(num_steps=3)
    name, policy = named_policy(f"{run}/", digits, num_steps=3)
    assert name == str(run)
    actions = all_steps(policy, 3)
    assert torch.equal(actions, all_steps(load_policy(run, digits), 3))
    assert (actions.std(dim=1) > 0).all(), "the fixture's policy does not adapt"


@pytest.mark.parametrize(
    "spec",
    [
        "nonsense",
        "missing.json",
        "heuristics",
        "heuristic()",
        "heuristic(1, 2)",
        "heuristic(1, 2, 3, 4)",
        "heuristic(a, b, c)",
        "",
    ],
)
def test_what_is_no_policy_is_refused_with_what_is_allowed(digits, monkeypatch, tmp_path, spec):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"heuristic\(lambda, k, tau1\)|holds no run"):
        named_policy(spec, digits, num_steps=4)


@pytest.mark.parametrize("spec", ["heuristic(1, 1, -1)", "heuristic(nan, 1, 1)"])
def test_numbers_a_schedule_cannot_have(digits, spec):
    with pytest.raises(ValueError, match=r"policy: 'heuristic\(.*finite and >= 0"):
        named_policy(spec, digits, num_steps=4)


def test_a_file_that_is_no_schedule(digits, tmp_path):
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="is not a schedule"):
        named_policy(str(path), digits, num_steps=4)


def test_another_t_is_refused(digits, make_run, tmp_path):
    run, path = make_run(num_steps=3), tmp_path / "three.json"
    heuristic_schedule(3).save(path)
    for spec in (str(run), str(path)):
        with pytest.raises(ValueError, match="is for num_steps = 3, got 4; take 3 steps"):
            named_policy(spec, digits, num_steps=4)


def test_a_run_of_another_bundle_is_refused(digits, make_run):
    run = make_run()
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"fingerprint": "0" * 64}))
    with pytest.raises(ValueError, match="another bundle than 'digits'"):
        named_policy(str(run), digits, num_steps=2)


def test_own_num_steps(make_run, tmp_path):
    heuristic_schedule(7).save(tmp_path / "seven.json")
    assert own_num_steps(str(tmp_path / "seven.json")) == 7
    assert own_num_steps(str(make_run(num_steps=3))) == 3
    assert own_num_steps("heuristic(1, 1, 1)") is None


def test_the_bundle_is_the_one_given_or_that_of_the_runs(make_run, tmp_path):
    run = str(make_run())
    assert chosen_bundle([run], "fashion") == "fashion"
    assert chosen_bundle(["heuristic", run], None) == "digits"
    assert chosen_bundle(["heuristic"], None) == "fashion"
    by_path = str(make_run("by-path", bundle=str(bundle_folder("digits"))))
    assert chosen_bundle([run, by_path], None) == "digits"
    copy = shutil.copytree(bundle_folder("digits"), tmp_path / "copy")
    other = str(make_run("other", bundle=str(copy)))
    with pytest.raises(ValueError, match="runs of one bundle"):
        chosen_bundle([run, other], None)


def test_the_shuffled_policy_permutes_features_among_samples():
    def first_number(features, timestep):
        return torch.stack([features[:, 0, 0], timestep.float()], dim=1)

    features = torch.arange(64.0)[:, None, None].expand(64, 16, 8)
    timestep = torch.full((64,), 2)
    policy = ShuffledPolicy(first_number, seed=3)
    first, second = policy(features, timestep), policy(features, timestep)
    for seen in (first, second):
        assert not torch.equal(seen[:, 0], torch.arange(64.0))
        assert torch.equal(seen[:, 0].sort().values, torch.arange(64.0))
        assert (seen[:, 1] == 2).all()
    assert not torch.equal(first, second)
    assert torch.equal(ShuffledPolicy(first_number, seed=3)(features, timestep), first)
    assert not torch.equal(ShuffledPolicy(first_number, seed=4)(features, timestep), first)


def test_shuffling_draws_from_no_global_generator(digits):
    policy = ShuffledPolicy(ScheduledPolicy(heuristic_schedule(2)), seed=0)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=False)
    all_steps(policy, 2)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_equal(np.random.get_state(legacy=False), numpy_state)


def test_a_shuffled_policy_is_for_the_t_of_what_it_shuffles(digits):
    policy = ShuffledPolicy(ScheduledPolicy(heuristic_schedule(8)), seed=0)
    with pytest.raises(ValueError, match=r"^num_steps: got 4, .* T = 8"):
        generate(digits, policy, torch.tensor([1]), 4, 0)


def test_fingerprints_tell_policies_apart(digits, make_run):
    runs = [make_run("a"), make_run("b", weights=1)]
    learned = [load_policy(run, digits) for run in runs]
    scheduled = [ScheduledPolicy(heuristic_schedule(2, k)) for k in (1.0, 2.0)]
    prints = [policy_fingerprint(policy) for policy in learned + scheduled]
    assert len(set(prints)) == 4
    assert policy_fingerprint(load_policy(runs[0], digits)) == prints[0]
    learned[0].actor.head.bias += 1.0  # type: ignore[union-attr, operator]
    assert policy_fingerprint(learned[0]) != prints[0]
    learned[1].test_action = "mean"
    assert policy_fingerprint(learned[1]) != prints[1]
    unknown = ShuffledPolicy(scheduled[0], 0)
    assert policy_fingerprint(unknown) != policy_fingerprint(unknown)


@pytest.mark.parametrize(
    ("reward", "given"),
    [
        ("judge", True),
        ("frechet", True),
        ('{"name": "clipped", "reward": "judge"}', True),
        ("judges:Mine", False),
        ('{"name": "clip", "path_or_id": "judge"}', False),
        ("adversarial", False),
    ],
)
def test_the_bundles_judge_gave_a_reward_that_is_made_of_it(make_run, reward, given):
    run = make_run()
    config = json.loads((run / "config.json").read_text())
    config["config"]["reward"] = reward
    (run / "config.json").write_text(json.dumps(config))
    assert is_trained_by(str(run), "digits-judge", own=True) == given
    assert not is_trained_by(str(run), "another", own=False)
