"""Policies by name, and which bundle and T they are for."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from agents.runs.checkpoint import load_policy
from agents.sharing.names import chosen_bundle, named_policy, own_num_steps, run_of
from nat_env.bundles.loading import bundle_folder
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import Schedule, amused_schedule, heuristic_schedule


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


def test_amuseds_schedule_is_for_the_bundles_number_of_tokens(digits):
    """20 steps are so many for 16 tokens that it differs from that for more of them."""
    name, policy = named_policy("amused", digits, num_steps=20)
    table = amused_schedule(20, 16).table
    assert name == "amused" and not torch.equal(table, amused_schedule(20, 256).table)
    assert torch.equal(all_steps(policy, 20)[:, 0], table)


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


def test_a_schedules_name_is_no_folder_of_that_name(digits, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "heuristic").mkdir()
    assert run_of("heuristic") is None
    assert chosen_bundle(["heuristic"], None) == "fashion"
    assert isinstance(named_policy("heuristic", digits, 4)[1], ScheduledPolicy)
    assert run_of("./heuristic") == (Path("heuristic"), "best")


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
