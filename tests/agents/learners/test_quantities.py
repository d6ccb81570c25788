"""What is learned: some of the four quantities, and a sampler's own."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agents.learners.config import TrainConfig
from agents.learners.factory import live_policy
from agents.learners.ppo import PPO
from agents.runs.checkpoint import (
    decided_quantities,
    load_about,
    load_policy,
    load_run_config,
)
from agents.training.train import Training
from eval import evaluate
from eval.evaluation.fingerprint import policy_fingerprint
from eval.evaluation.tables import adaptation_table
from nat_env import NATDecodeEnv, NATDecodeVectorEnv, load_bundle
from nat_env.decoding.quantities import COLUMNS
from nat_env.frozen.conditions import balanced_conditions
from nat_env.generation import generate_batches
from nat_env.samplers.remdm import ReMDM
from nat_env.schedules import heuristic_schedule
from nat_env.seeds import NAT_EVAL, TRAINING_EVALUATION

NAMES = ("guidance_scale", "eta")


@pytest.fixture
def config(small_training):
    """Of guidance and ReMDM's share alone."""
    return partial(small_training, residual="remdm(0.4)", quantities=NAMES)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"algo": "a2c", "batch_size": TrainConfig.batch_size},  # it has none
        {"algo": "td3"},
        {"algo": "recurrent-ppo"},
    ],
)
def test_a_training_decides_what_it_is_told_to_and_nothing_else(tmp_path, changes, config):
    training = Training(config(tmp_path / "run", **changes), progress=False)
    applied, step = [], training.decoder.step

    def spied(actions):
        assert actions.shape == (8, 2)
        result = step(actions)
        applied.append(result[4]["action"])
        return result

    training.decoder.step = spied  # type: ignore[method-assign]
    training.run()
    table = heuristic_schedule(2).table.numpy()
    for t, physical in enumerate(applied):
        fixed = np.broadcast_to(table[t % 2, :3], (8, 3))
        np.testing.assert_allclose(physical[:, :3], fixed, atol=2e-7)
        assert physical[:, 3:].std(axis=0).min() > 1e-3
    recorded = training.callback.logger
    training.callback._record_rollout()
    tags = set(recorded.name_to_value)
    assert "eta/step1_mean" in tags and "eta/step2_mean" not in tags  # no effect at the last
    live = live_policy(training.config, training.model, training.decoder.action_map)
    bundle = load_bundle("digits")
    loaded = load_policy(tmp_path / "run", bundle)
    assert load_run_config(tmp_path / "run").quantities == NAMES
    assert loaded.sampler == ReMDM(0.4)
    features = torch.randn(4, bundle.num_tokens, bundle.nat.feature_size)
    for t in range(2):
        at = torch.full((4,), t)
        physical = loaded(features, at)
        assert physical.shape == (4, 5)
        torch.testing.assert_close(physical, live(features, at))


def test_the_log_probability_is_of_what_has_an_effect():
    """At the last step eta has none: of the Gaussian's two numbers guidance alone counts."""
    env = NATDecodeVectorEnv(4, "digits", 2, residual="remdm", quantities=NAMES)
    model = PPO(env, seed=0)
    observation, _ = env.reset(seed=0)
    actions = torch.tensor([[0.1, -0.2], [0.3, 0.0], [0.0, 0.5], [-0.1, -0.1]])
    sigma = model.policy.action_std
    gaussian = torch.distributions.Normal(torch.zeros(()), sigma)
    for timestep, columns in ((0, (0, 1)), (1, (0,))):
        given = {name: torch.from_numpy(part) for name, part in observation.items()}
        given["timestep"] = torch.full_like(given["timestep"], timestep)
        with torch.no_grad():
            _, log_prob, _ = model.policy.evaluate_actions(given, actions)
        # The head starts at zero, and so does the mean.
        expected = sum(gaussian.log_prob(5 * actions[:, column]) for column in columns)
        torch.testing.assert_close(log_prob, expected)


@pytest.mark.parametrize("changes", [{}, {"observation": "confidences"}, {"action_smoothing": 0.5}])
def test_a_map_over_the_tokens_is_learned_kept_and_told(tmp_path, changes, small_training):
    config = small_training(
        tmp_path / "run", residual="confidence-map", eval_every=1, num_samples=50, **changes
    )
    training = Training(config, progress=False)
    training.run()
    action_map, bundle = training.decoder.action_map, load_bundle("digits")
    assert len(action_map.names) == 4 + 16 and training.model.policy.map_size == 16
    live = live_policy(config, training.model, action_map)
    loaded = load_policy(tmp_path / "run", bundle, "last")
    size = bundle.nat.feature_size if "observation" not in changes else 2
    features, at = torch.randn(4, 16, size), torch.zeros(4, dtype=torch.int64)
    physical = loaded(features, at)
    assert physical.shape == (4, 4 + 16)
    torch.testing.assert_close(physical, live(features, at))
    assert physical[:, 4:].std(dim=1).min() > 0  # it was zero
    report = (tmp_path / "run" / "report.md").read_text()
    assert "| guidance scale w | spread of the map |" in report
    maps = []
    list(
        generate_batches(
            bundle, loaded, balanced_conditions(50, 10), 2, TRAINING_EVALUATION.seed_of(0),
            on_step=lambda record: maps.append(record.actions[:, 4:]),
        )
    )  # fmt: skip
    told = load_about(tmp_path / "run", "last")["actions"]["confidence_map"]
    first = torch.cat(maps[::2]).double()  # [50, 16]
    assert told["mean"][0] == pytest.approx(first.mean(dim=0).std(correction=0).item(), rel=1e-3)
    assert told["std"][0] == pytest.approx(first.var(dim=0).mean().sqrt().item(), rel=1e-3)
    assert decided_quantities(tmp_path / "run") == (*COLUMNS, "confidence_map")


def test_other_learners_take_the_numbers_of_tokens_as_they_are(tmp_path, small_training):
    config = small_training(tmp_path / "run", residual="confidence-map", algo="td3")
    training = Training(config, progress=False)
    training.run()
    assert training.model.action_noise.base_noise._sigma.shape == (4 + 16,)
    policy = load_policy(tmp_path / "run", load_bundle("digits"), "last")
    found = policy(torch.randn(3, 16, 64), torch.zeros(3, dtype=torch.int64))
    assert found.shape == (3, 4 + 16) and found[:, 4:].abs().max() > 0


def test_another_choice_is_another_policy(tmp_path, config):
    found = set()
    for index, names in enumerate((NAMES, NAMES[::-1])):
        Training(config(tmp_path / str(index), quantities=names), progress=False).run()
        policy = load_policy(tmp_path / str(index), load_bundle("digits"))
        for weights in policy.actor.parameters():
            weights.data.zero_()
        found.add(policy_fingerprint(policy))
    assert len(found) == 2


def test_a_choice_that_cannot_be_is_refused_before_the_folder_is_taken(tmp_path, config):
    wrong = config(tmp_path / "run", residual="heuristic")  # which has no sampler with an eta
    with pytest.raises(ValueError, match=r"^quantities: got .*, allowed are some of"):
        Training(wrong, progress=False)
    assert not (tmp_path / "run").exists()


def test_evaluation_tells_a_fifth_quantity_by_name(tmp_path, config):
    """In rows, tables and the run's report; a policy of four stands beside it."""
    Training(config(tmp_path / "run", eval_every=1, num_samples=50), progress=False).run()
    evaluate(
        "digits",
        {"heuristic": "heuristic", "learned": str(tmp_path / "run")},
        out=tmp_path / "eval",
        num_steps=2,
        num_samples=50,
        judges=(),
    )
    rows = json.loads((tmp_path / "eval" / "results.json").read_text())["rows"]
    told = {row["policy"]: row["actions"] for row in rows}
    assert list(told["heuristic"]) == list(COLUMNS)
    assert list(told["learned"]) == [*COLUMNS, "eta"]
    policy = load_policy(tmp_path / "run", load_bundle("digits"))
    chosen = []
    conditions = balanced_conditions(50, 10)
    list(
        generate_batches(
            load_bundle("digits"), policy, conditions, 2, NAT_EVAL.seed_of(0),
            on_step=lambda record: chosen.append(record.actions[record.passed, 4]),
        )
    )  # fmt: skip
    mean = torch.cat(chosen[::2]).mean().item()
    assert told["learned"]["eta"]["mean"][0] == pytest.approx(mean, rel=1e-4)
    spread = {"std": [0.0, 0.3], "std_within_classes": [0.0, 0.3]}
    adapting = [row | {"actions": dict.fromkeys(row["actions"], spread)} for row in rows]
    head, _, heuristic, learned, *_ = adaptation_table(adapting).splitlines()
    assert head == "| policy | T | m | tau1 | tau2 | w | eta |"
    cells = ["0.300, 100 %"] * 4
    assert heuristic == " | ".join(["| heuristic", "2", *cells, "|"])
    assert learned == " | ".join(["| learned", "2", *cells, "0.300, 100 % |"])
    run_report = (tmp_path / "run" / "report.md").read_text()
    assert "| guidance scale w | re-masked share η |" in run_report


@pytest.mark.parametrize("names", [("guidance_scale",), ("guidance_scale", "remask_ratio")])
def test_environments_of_one_row_each_tell_what_is_decided(names):
    options = {"bundle": "digits", "num_steps": 2, "residual": "heuristic", "quantities": names}
    env = SyncVectorEnv(
        [lambda: NATDecodeEnv(**options)] * 2, autoreset_mode=AutoresetMode.SAME_STEP
    )
    model = PPO(env, seed=0, n_steps=2, batch_size=4)
    assert model.policy.idle_at_last == tuple(name == "remask_ratio" for name in names)
    model.learn(4)
    physical = model.decoding_policy()(torch.zeros(1, 16, 64), torch.tensor([0]))
    np.testing.assert_allclose(physical[0, 1:3], heuristic_schedule(2).table[0, 1:3])
    wrong = {"idle_at_last": (True,) * len(names)}
    with pytest.raises(ValueError, match=r"^idle_at_last: got \(True.*, allowed is the environ"):
        PPO(env, policy_kwargs=wrong)


def test_a_run_goes_on_wherever_the_file_of_its_residual_is_now(tmp_path, config):
    schedule = heuristic_schedule(2, 0.5)
    schedule.save(tmp_path / "one.json")
    first = config(tmp_path / "run", residual=str(tmp_path / "one.json"), quantities=None)
    Training(first, progress=False).run()
    (tmp_path / "moved").mkdir()
    (tmp_path / "one.json").rename(tmp_path / "moved" / "one.json")
    moved = replace(first, residual=str(tmp_path / "moved" / "one.json"), resume=True, budget=32)
    Training(moved, progress=False).run()
    heuristic_schedule(2, 0.25).save(tmp_path / "other.json")
    with pytest.raises(ValueError, match=r"was made with residual = "):
        other = replace(moved, budget=48, residual=str(tmp_path / "other.json"))
        Training(other, progress=False)
