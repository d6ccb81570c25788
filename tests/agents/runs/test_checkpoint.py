"""How far a run's actions reach is kept with it, and what its residual is called."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from agents.learners.config import PRESETS, TrainConfig
from agents.learners.network import AdaNATNetwork
from agents.learners.trained import LearnedPolicy
from agents.runs.checkpoint import (
    CONFIG,
    check_same_run,
    load_policy,
    load_run_config,
    run_residual,
    save_policy,
    save_run_config,
)
from nat_env.actions import ActionMap
from nat_env.bundles.loading import load_bundle
from nat_env.schedules import authors_schedule


def make_run(folder, raw=10.0, sigma=1e-3, **options) -> TrainConfig:
    """A run whose policy says `raw` in raw units, everywhere."""
    bundle = load_bundle("digits", dtype="float32")
    config = TrainConfig(
        folder, bundle="digits", dtype="float32", hidden_size=16, residual=None, **options
    )
    actor = AdaNATNetwork(bundle.nat.feature_size, bundle.nat.feature_grid, 4, 16)
    nn.init.constant_(actor.head.bias, raw)
    save_run_config(folder, config, bundle)
    policy = LearnedPolicy(actor, ActionMap(), sigma, config.num_steps)
    save_policy(folder, "best", policy, {})
    return config


def decoded(folder) -> list[float]:
    policy = load_policy(folder, load_bundle("digits", dtype="float32"))
    return policy(torch.zeros(1, 16, 64), torch.tensor([0]))[0, 1:].tolist()


def test_decoding_a_run_uses_its_own_scale(tmp_path):
    make_run(tmp_path, raw_scale=20.0)
    assert decoded(tmp_path) == pytest.approx([10.0] * 3, abs=1e-3)


def test_decoding_a_run_uses_its_own_test_action(tmp_path):
    drawn = torch.linspace(-3, 5, 1_000_001, dtype=torch.float64)
    density = torch.exp(-((drawn - 1) ** 2) / 2)  # of sigma = 1 around raw = 1
    softplus = torch.log1p(drawn.exp())
    expected = {"mean": 1.3133, "expectation": (softplus * density).sum() / density.sum()}
    for name, value in expected.items():
        make_run(tmp_path / name, raw=1.0, sigma=1.0, test_action=name)
        assert decoded(tmp_path / name) == pytest.approx([float(value)] * 3, abs=2e-3)
    assert expected["expectation"] > 1.38  # so that the two are told apart


def test_an_older_run_without_the_scale_has_five_and_can_go_on(tmp_path):
    config = make_run(tmp_path)
    values = json.loads((tmp_path / CONFIG).read_text())
    del values["config"]["raw_scale"]
    (tmp_path / CONFIG).write_text(json.dumps(values))
    assert load_run_config(tmp_path).raw_scale == 5.0
    assert decoded(tmp_path) == pytest.approx([5.0067] * 3, abs=1e-3)
    bundle = load_bundle("digits", dtype="float32")
    check_same_run(tmp_path, config, bundle)
    with pytest.raises(ValueError, match=r"raw_scale = 5\.0, now 20"):
        check_same_run(tmp_path, replace(config, raw_scale=20.0), bundle)


def test_the_papers_preset_has_room_above_its_guidance():
    assert PRESETS["paper"][1].raw_scale == 20.0


def test_the_authors_table_is_a_residual_by_name(tmp_path):
    config = replace(make_run(tmp_path), residual="authors")
    bundle = load_bundle("digits", dtype="float32")
    save_run_config(tmp_path, config, bundle)
    assert run_residual(tmp_path, config) == "authors"
    residual = load_policy(tmp_path, bundle).action_map.residual
    assert residual is not None
    assert torch.equal(residual.table, authors_schedule(config.num_steps).table)
