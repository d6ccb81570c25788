"""What holds on every device, held on the one that NAT_DEVICE names: against the CPU, and itself.

`make gpu` runs this file on an accelerator. Without NAT_DEVICE the device is the CPU, which has to
agree with itself. Devices sum in another order, so that where a number lies on an edge a token
differs: nearly all rows are asked to be the same, not all.
"""

import os
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

import nat_env
from agents.learners.config import TrainConfig
from agents.learners.network import AdaNATNetwork
from agents.learners.trained import LearnedPolicy
from agents.training.train import Training
from nat_env.actions import ActionMap
from nat_env.bundles.loading import load_bundle
from nat_env.generation import generate
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.rewards.names import chosen_reward
from nat_env.schedules import heuristic_schedule
from nat_env.vector_env import NATDecodeVectorEnv
from nat_env.wrappers.adversarial import default_model

DEVICE = os.environ.get("NAT_DEVICE", "cpu")
T, ROWS = 4, 128
NEARLY_ALL = 0.95
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (T, ROWS, 4)).astype(np.float32)


@pytest.fixture
def there():
    return load_bundle("digits", "float32", DEVICE)


@pytest.fixture
def scores():
    """A function that gives the scores of a batch of images by a reward of a bundle, on the CPU."""

    def of(reward, images, bundle):
        conditions = torch.arange(len(images)) % 10
        return reward(images.to(bundle.device), conditions.to(bundle.device)).cpu()

    return of


def alike(first, second, **tolerance):
    """The share of rows that agree."""
    close = torch.isclose(torch.as_tensor(first).cpu(), torch.as_tensor(second).cpu(), **tolerance)
    return close.flatten(1).all(dim=1).float().mean()


def played(bundle, steps=ACTIONS, **more):
    """Ids, rewards and features before the end, of episodes of fixed actions."""
    env = NATDecodeVectorEnv(ROWS, bundle, T, autoreset_mode="Disabled", aligned=True, **more)
    observation, _ = env.reset(seed=7)
    for actions in steps:
        assert env.observation_space.contains(observation)  # arrays, wherever they were computed
        before = observation["features"]
        observation, rewards, terminated, truncated, info = env.step(actions)
    assert terminated.all() and not truncated.any()
    assert info["action"].shape == (ROWS, 4)
    return env.ids, torch.from_numpy(rewards), before


def test_episodes_are_those_of_the_cpu(there, digits):
    ids, rewards, features = played(there)
    expected, on_cpu, seen = played(digits)
    assert alike(ids, expected) >= NEARLY_ALL
    same = (ids.cpu() == expected).all(dim=1)
    torch.testing.assert_close(rewards[same], on_cpu[same], atol=2e-2, rtol=2e-2)
    assert alike(features, seen, atol=1e-2, rtol=1e-2) >= NEARLY_ALL


def test_a_row_is_the_single_environment_of_its_seed(there):
    _, rewards, _ = played(there)
    env = gym.make(
        "NATDecode-v0", bundle="digits", num_steps=T, dtype="float32", device=DEVICE, aligned=True
    )
    same = []
    for row in range(8):
        env.reset(seed=7 + row)
        for actions in ACTIONS[:, row]:
            _, reward, *_ = env.step(actions)
        same.append(abs(float(reward) - float(rewards[row])) < 2e-2)
    assert sum(same) >= 7
    assert len({round(float(r), 3) for r in rewards[:8]}) > 4  # they could be told apart


def test_an_environment_goes_on_from_its_state_here_and_on_the_cpu(there, digits):
    env = NATDecodeVectorEnv(ROWS, there, T, autoreset_mode="Disabled", aligned=True)
    env.reset(seed=7)
    for actions in ACTIONS[:2]:
        env.step(actions)
    state = env.state_dict()
    for actions in ACTIONS[2:]:
        env.step(actions)
    for bundle in (there, digits):
        other = NATDecodeVectorEnv(ROWS, bundle, T, autoreset_mode="Disabled", aligned=True)
        other.load_state_dict(state)
        for actions in ACTIONS[2:]:
            other.step(actions)
        assert alike(other.ids, env.ids) >= NEARLY_ALL


def test_generation_is_that_of_the_cpu_with_a_schedule_and_with_a_policy(there, digits):
    size = digits.nat.feature_size
    torch.manual_seed(3)
    network = AdaNATNetwork(size, digits.nat.feature_grid, 4, 32).eval()
    torch.nn.init.normal_(network.head.weight, std=0.3)
    action_map = ActionMap(heuristic_schedule(T))
    labels = [n % 10 for n in range(ROWS)]
    policies = {
        "schedule": lambda bundle: nat_env.ScheduledPolicy(heuristic_schedule(T)),
        "policy": lambda bundle: LearnedPolicy(network.to(bundle.device), action_map, 0.3, T),
    }
    found = {}
    for name, policy in policies.items():
        expected = generate(digits, policy(digits), labels, T, seed=3)
        found[name] = generate(there, policy(there), labels, T, seed=3).cpu()
        assert alike(found[name], expected, atol=2e-2) >= NEARLY_ALL
    assert alike(found["policy"], found["schedule"], atol=2e-2) < 0.5  # the policy acts


def test_rewards_are_those_of_the_cpu(there, digits, scores):
    images = generate(digits, nat_env.ScheduledPolicy(heuristic_schedule(T)), [1] * 40, T, seed=0)
    judged = [scores(chosen_reward("judge", b), images, b) for b in (there, digits)]
    torch.testing.assert_close(*judged, atol=2e-2, rtol=2e-2)
    adversaries = [default_model(b, "raw", seed=0) for b in (there, digits)]
    before = [scores(a, images, b) for a, b in zip(adversaries, (there, digits), strict=True)]
    torch.testing.assert_close(*before, atol=1e-2, rtol=1e-2)
    labels = torch.arange(40) % 10
    told = [
        adversary.update(images.to(bundle.device), labels.to(bundle.device), 5)
        for adversary, bundle in zip(adversaries, (there, digits), strict=True)
    ]
    assert told[0] == pytest.approx(told[1], abs=2e-2)
    after = [scores(a, images, b) for a, b in zip(adversaries, (there, digits), strict=True)]
    torch.testing.assert_close(*after, atol=2e-2, rtol=2e-2)
    assert (after[1] - before[1]).abs().mean() > 1e-2  # it has learned


def test_the_dtype_chosen_by_itself_decodes_as_well(there):
    chosen = load_bundle("digits", "auto", DEVICE)
    of_both = [played(bundle)[1].mean() for bundle in (chosen, there)]
    assert of_both[0] == pytest.approx(of_both[1], abs=0.5)


def test_a_training_goes_on_as_if_never_stopped(tmp_path):
    config = TrainConfig(
        tmp_path / "whole",
        bundle="digits",
        num_steps=2,
        budget=4 * 64,
        trajectories_per_round=64,
        hidden_size=16,
        batch_size=64,
        learning_rate=1e-3,
        final_learning_rate=1e-3,
        final_action_std=1.0,
        discriminator=DiscriminatorConfig(trunk="bundle", widths=(32,)),
        discriminator_updates=2,
        warmup_rounds=0,
        eval_every=0,
        save_every_seconds=0,
        dtype="float32",
        device=DEVICE,
        threads=1,
    )

    def weights(config):
        training = Training(config, progress=False)
        start = flat(training)
        training.run()
        return start, flat(training)

    def flat(training):
        parameters = training.model.policy.state_dict().values()
        return torch.cat([p.detach().flatten().float().cpu() for p in parameters])

    start, whole = weights(config)
    weights(replace(config, out=tmp_path / "stopped", budget=2 * 64))
    torch.manual_seed(99)  # what another process would have
    going_on = replace(config, out=tmp_path / "stopped", resume=True)
    halfway, resumed = weights(going_on)
    learned = (whole - start).norm()
    assert (halfway - start).norm() > 0.2 * learned
    assert (resumed - whole).norm() < 0.1 * learned
