"""Every learner by name: it learns, stops and goes on, and what it has learned is loaded again."""

import dataclasses
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest
import torch
import tyro

from agents.learners.algorithms import ALGORITHMS, algorithm_of
from agents.learners.config import PRESETS, TrainConfig
from agents.learners.factory import live_policy, make_learner
from agents.learners.trained import PredictedPolicy
from agents.learners.vec_env import GymnasiumVecEnv
from agents.runs.checkpoint import load_policy
from agents.runs.learner_state import learner_state
from agents.sharing.names import named_policy
from agents.training.callbacks import RoundCallback
from agents.training.train import Training
from eval.evaluation.fingerprint import policy_fingerprint
from nat_env.actions import RAW_SCALE, ActionMap
from nat_env.bundles.loading import load_bundle
from nat_env.episodes.observations import pooled
from nat_env.generation import generate
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.schedules import heuristic_schedule
from nat_env.storage.state import load_state
from nat_env.vector_env import NATDecodeVectorEnv

SMALL = TrainConfig(
    Path(),
    bundle="digits",
    num_steps=2,
    budget=32 * 4,
    trajectories_per_round=32,
    num_envs=16,
    hidden_size=16,
    batch_size=32,
    epochs=2,
    discriminator=DiscriminatorConfig(widths=(8, 16), batch_size=16),
    discriminator_updates=2,
    warmup_rounds=1,
    eval_every=2,
    num_samples=100,
    threads=1,
)
OTHERS = [name for name in ALGORITHMS if name != "ppo"]


def small(algo: str) -> TrainConfig:
    """`SMALL`, with defaults for what the learner refuses to be given."""
    refused = ALGORITHMS[algo].refuses if algo in ALGORITHMS else frozenset()
    usual = {"epochs": 5, "hidden_size": 128, "batch_size": 256}
    defaults = {name: value for name, value in usual.items() if name in refused}
    return dataclasses.replace(SMALL, algo=algo, **defaults)


def training(out: Path, algo: str, **changes) -> Training:
    return Training(dataclasses.replace(small(algo), out=out, **changes), progress=False)


def flat(state, path=""):
    """A nested state as a dict from path to number or list of numbers."""
    if isinstance(state, dict | list):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        return {k: v for key, value in items for k, v in flat(value, f"{path}/{key}").items()}
    return {path: state.tolist() if isinstance(state, torch.Tensor) else state}


@pytest.mark.parametrize("algo", OTHERS)
def test_a_learner_learns_stops_and_goes_on(algo, tmp_path, monkeypatch):
    whole = training(tmp_path / "whole", algo)
    before = {k: v.clone() for k, v in whole.model.policy.state_dict().items()}
    results = whole.run()
    after = whole.model.policy.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)

    ends = []
    original = RoundCallback._on_rollout_end

    def stop_in_round_three(self):
        ends.append(1)
        if len(ends) == 3:
            raise KeyboardInterrupt
        original(self)

    monkeypatch.setattr(RoundCallback, "_on_rollout_end", stop_in_round_three)
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "broken", algo).run()
    monkeypatch.undo()
    torch.manual_seed(99)  # what another process would have
    np.random.seed(99)
    assert training(tmp_path / "broken", algo, resume=True).run() == results
    states = [load_state(tmp_path / name / "state.safetensors") for name in ("broken", "whole")]
    assert flat(states[0]["learner"]) == flat(states[1]["learner"])
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".zip", ".pkl", ".pt", ".pth")]

    bundle = load_bundle("digits")
    _, loaded = named_policy(str(tmp_path / "whole" / "last.safetensors"), bundle, 2)
    assert isinstance(loaded, PredictedPolicy)
    features = torch.randn(5, bundle.num_tokens, bundle.nat.feature_size)
    live = PredictedPolicy(whole.model.policy, loaded.action_map, 2)
    for step in (0, 1):
        timestep = torch.full((5,), step)
        torch.testing.assert_close(loaded(features, timestep), live(features, timestep))
    best = load_policy(tmp_path / "broken", bundle, "last")
    assert policy_fingerprint(best) == policy_fingerprint(loaded)


@pytest.mark.parametrize("algo", OTHERS)
def test_nothing_is_learned_during_the_warm_up(algo, tmp_path):
    run = training(tmp_path, algo, budget=32 * 2, warmup_rounds=1)
    seen = []
    original = run.callback._on_rollout_start

    def weights():
        return torch.cat([p.detach().flatten().clone() for p in run.model.policy.parameters()])

    def look():
        seen.append(weights())
        original()

    run.callback._on_rollout_start = look
    run.run()
    assert torch.equal(seen[0], seen[-1]) and not torch.equal(seen[0], weights())


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("algo", list(ALGORITHMS))
def test_a_preset_fits_every_learner_as_it_is(algo, preset):
    config = dataclasses.replace(PRESETS[preset][1], algo=algo)
    if config.fresh_samples and algo != "ppo":
        config = dataclasses.replace(config, fresh_samples=False)  # what its error asks for
    algorithm_of(config).options(config)


OPTIONS = {
    "adaptive": False,
    "shared_noise": True,
    "learning_rate": 0.5,
    "final_learning_rate": 0.5,
    "final_action_std": 0.5,
    "clip_range": 0.5,
    "value_coefficient": 0.25,
    "entropy_coefficient": 0.5,
    "max_grad_norm": 5.0,
    "epochs": 3,
    "hidden_size": 32,
    "batch_size": 16,
    "rollout_folder": Path("somewhere"),
}


@pytest.mark.parametrize("algo", list(ALGORITHMS))
def test_a_learner_refuses_the_options_that_change_nothing(algo):
    config, algorithm = small(algo), ALGORITHMS[algo]

    def described(**changes):
        options = algorithm.options(dataclasses.replace(config, **changes))
        return {k: v(0.25) if isinstance(v, FunctionType) else repr(v) for k, v in options.items()}

    idle = {name for name, value in OPTIONS.items() if described(**{name: value}) == described()}
    assert idle == algorithm.refuses & OPTIONS.keys()
    for name in idle:
        with pytest.raises(ValueError, match=f"^{name}: got {OPTIONS[name]}"):
            algorithm_of(dataclasses.replace(config, **{name: OPTIONS[name]}))


def test_options_of_a_learner_are_what_they_say():
    arguments = ["digits", "--out", "x", "--algo", "stock-ppo", "--algo-options"]
    arguments += ["normalize_advantage", "False", "target_kl", "None", "learning_rate", "3e-4"]
    config = tyro.extras.overridable_config_cli(PRESETS, args=arguments)
    model = make_learner(
        config,
        GymnasiumVecEnv(NATDecodeVectorEnv(256, "digits", 4, observation="pooled")),
        load_bundle("digits"),
    )
    found = (model.normalize_advantage, model.target_kl, model.learning_rate)
    assert found == (False, None, 3e-4)


@pytest.mark.parametrize("algo", ["ppo", "recurrent-ppo"])
def test_a_policy_decodes_in_its_own_number_of_steps(tmp_path, algo):
    run = training(tmp_path, algo)
    policy = live_policy(run.config, run.model, run.decoder.action_map)
    generate(run.decoder.bundle, policy, torch.tensor([1]), 2, 0)
    with pytest.raises(ValueError, match=r"^num_steps: got 3, .* T = 2"):
        generate(run.decoder.bundle, policy, torch.tensor([1]), 3, 0)


@pytest.mark.parametrize("algo", ["a2c", "sac", "td3", "ars"])
def test_learning_starts_at_the_residual_schedule_and_explores_as_told(algo):
    config = small(algo)
    if algo != "ars":  # it explores by other weights, not by noise on actions
        config = dataclasses.replace(config, action_std=0.4)
    bundle = load_bundle("digits")
    env = NATDecodeVectorEnv(16, bundle, 2, observation="pooled", residual="heuristic")
    model = make_learner(config, GymnasiumVecEnv(env), bundle)
    features = torch.randn(6, bundle.num_tokens, bundle.nat.feature_size)
    timestep = torch.tensor([0, 1, 0, 1, 0, 1])
    observation = pooled(features, timestep, 2)
    action, _ = model.predict(observation.numpy(), deterministic=True)
    np.testing.assert_allclose(action, 0, atol=0.02)
    if algo in ("a2c", "sac"):
        torch.manual_seed(0)
        many = observation[:1].expand(4000, -1).numpy()
        explored = model.predict(many, deterministic=False)[0] * RAW_SCALE
        assert explored.std(axis=0) == pytest.approx(0.4, rel=0.1)
    policy = PredictedPolicy(model.policy, ActionMap(heuristic_schedule(2)), 2)
    found = policy(features, timestep)
    expected = heuristic_schedule(2).table[timestep]
    # The mean of the quantities under the exploration is close to the schedule, not equal.
    torch.testing.assert_close(found[:, 1:], expected[:, 1:], atol=0.06, rtol=0.05)
    with pytest.raises(ValueError, match=r"^num_steps: got 3, .* T = 2"):
        generate(bundle, policy, torch.tensor([1]), 3, 0)


def test_a_recurrent_policy_remembers_within_an_episode_only(tmp_path):
    run = training(tmp_path, "recurrent-ppo")
    policy = PredictedPolicy(run.model.policy, run.decoder.action_map, 2)
    torch.nn.init.normal_(run.model.policy.action_net.weight)
    bundle = run.decoder.bundle
    one, other = torch.randn(2, 3, bundle.num_tokens, bundle.nat.feature_size)
    first, second = torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64)
    after_one = (policy(one, first), policy(one, second))[1]
    after_other = (policy(other, first), policy(one, second))[1]
    assert not torch.allclose(after_one, after_other)
    again = (policy(one, first), policy(one, second))[1]
    torch.testing.assert_close(again, after_one)


def test_a_search_over_policies_logs_what_they_did(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    steps = []
    step = GymnasiumVecEnv.step_wait

    def recorded(self):
        actions = self._actions
        result = step(self)
        steps.append((torch.from_numpy(actions), result[1]))
        return result

    monkeypatch.setattr(GymnasiumVecEnv, "step_wait", recorded)
    run = training(tmp_path, "ars")
    run.run()
    episodes = run.config.trajectories_per_round // run.config.environments
    of_round = steps[-2 * episodes :]  # T = 2
    events = EventAccumulator(str(run.config.out / "tensorboard"), {"scalars": 0}).Reload()
    rewards = np.stack([rewards for _, rewards in of_round[1::2]])
    assert events.Scalars("reward/mean")[-1].value == pytest.approx(rewards.mean(), rel=1e-4)
    assert len(events.Scalars("reward/mean")) == run.config.rounds
    actions = torch.cat([actions for actions, _ in of_round[0::2]])
    first = torch.zeros(len(actions), dtype=torch.int64)
    scale = run.decoder.action_map.physical(actions, first)[:, 3].mean().item()
    found = events.Scalars("guidance_scale/step1_mean")[-1].value
    assert found == pytest.approx(scale, rel=1e-4)


def test_the_replay_buffer_is_part_of_the_state(tmp_path):
    run = training(tmp_path, "sac")
    run.run()
    replay = learner_state(run.model)["replay"]
    # Rounds after the warm-up, steps of each environment in a round.
    assert int(replay["position"]) == 3 * 4
    filled = replay["rewards"][:12]
    assert bool((filled[1::2] != 0).all()) and not bool(filled[::2].any())  # of final images only


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algo": "dqn"}, "^algo: got 'dqn', allowed are"),
        (
            {"algo": "sac", "adaptive": False},
            "^adaptive: got False, allowed with sac",
        ),
        ({"algo": "a2c", "fresh_samples": True}, "^fresh_samples: got True"),
        ({"algo": "sac", "learning_rate": 3e-3}, r"^learning_rate: got 0\.003.*--algo-options"),
        ({"algo": "trpo", "epochs": 2}, "^epochs: got 2, allowed with trpo"),
        # What one preset has, asked for beside the values of another.
        ({"algo": "stock-ppo", "max_grad_norm": 1e9}, "^max_grad_norm: got 1000000000.0, allowed"),
        ({"algo": "ars", "num_envs": 32}, "^num_envs: got 32"),
        ({"algo": "a2c", "algo_options": {"nonesuch": 1}}, "^algo_options: .*nonesuch"),
        ({"algo": "a2c", "algo_options": {"n_steps": 6}}, "^algo_options: got n_steps, which foll"),
        ({"algo": "td3", "algo_options": {"train_freq": 1}}, "^algo_options: got train_freq"),
        ({"algo": "sac", "algo_options": {"use_sde": True}}, "^algo_options: got use_sde"),
        ({"algo": "sac", "algo_options": {"ent_coef": "x"}}, "^algo_options: got .*'ent_coef'"),
        ({"algo": "ppo", "batch_size": 10_000}, "^batch_size: got 10000, allowed is at most"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        training(tmp_path / "run", **changes)
    assert not (tmp_path / "run" / "config.json").exists()
