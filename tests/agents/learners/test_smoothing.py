"""Learned policies whose actions are averaged over the steps: against loops and drawn noise."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy.special import expit
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from agents.learners.trained import ExploringPolicy, LearnedPolicy, PredictedPolicy
from agents.runs.checkpoint import load_policy, load_run_config
from agents.training.train import Training
from eval.evaluation.fingerprint import policy_fingerprint
from nat_env import ActionMap
from nat_env.bundles.loading import load_bundle
from nat_env.schedules import authors_schedule

NUM_STEPS, ALPHA, SIGMA = 3, 0.8, 0.7
RAW = np.random.default_rng(3).normal(size=(NUM_STEPS, 2, 4)).astype(np.float32)
"""Means at each step, of two samples."""


class Given(nn.Module):
    def forward(self, features, timestep):
        return torch.from_numpy(RAW)[timestep, torch.arange(len(timestep))]


def steps(policy, times=1):
    """What the policy gives at each step of as many batches."""
    features = torch.zeros(2, 1, 1)
    found = [policy(features, torch.full((2,), t)) for _ in range(times) for t in range(NUM_STEPS)]
    return np.stack([part.numpy() for part in found])


def activated(raw):
    return np.concatenate([expit(raw[..., :1]), np.logaddexp(0, raw[..., 1:])], axis=-1)


def residual():
    table = authors_schedule(NUM_STEPS).table.double().numpy()
    return np.concatenate(
        [np.log(table[:, :1] / (1 - table[:, :1])), np.log(np.expm1(table[:, 1:]))], axis=1
    )


def averages(raw):
    """Of [T, ...]: s_0 = b_0, s_t = alpha s_(t-1) + (1 - alpha) b_t."""
    found = [raw[0]]
    for each in raw[1:]:
        found.append(ALPHA * found[-1] + (1 - ALPHA) * each)
    return np.stack(found)


def test_the_mean_is_that_of_a_loop_in_each_batch():
    action_map = ActionMap(authors_schedule(NUM_STEPS), smoothing=ALPHA)
    policy = LearnedPolicy(Given(), action_map, SIGMA, NUM_STEPS, "mean")
    expected = activated(averages(RAW) + residual()[:, None])
    np.testing.assert_allclose(steps(policy, 2), np.tile(expected, (2, 1, 1)), rtol=1e-4, atol=1e-6)


def test_the_expectation_is_over_the_noise_of_all_steps_so_far():
    action_map = ActionMap(raw_scale=20.0, smoothing=ALPHA)
    policy = LearnedPolicy(Given(), action_map, SIGMA, NUM_STEPS)
    noise = np.random.default_rng(0).normal(size=(NUM_STEPS, 200_000, 1, 1))
    drawn = activated(averages(RAW[:, None] + SIGMA * noise)).mean(axis=1)  # [T, 2, 4]
    np.testing.assert_allclose(steps(policy), drawn, atol=4e-3)


def test_other_learners_policies_are_averaged_alike():
    torch.manual_seed(0)
    box = spaces.Box(-1, 1, (4,), np.float32)
    sb3 = ActorCriticPolicy(spaces.Box(-1, 1, (2,), np.float32), box, lambda _: 0.0)
    nn.init.normal_(sb3.action_net.weight)
    action_map = ActionMap(smoothing=ALPHA)
    policy = PredictedPolicy(sb3, action_map, NUM_STEPS, "mean")
    means = [
        sb3.get_distribution(torch.tensor([[0.0, t / NUM_STEPS]])).distribution.mean
        for t in range(NUM_STEPS)
    ]
    clipped = np.stack([mean.detach().numpy().clip(-1, 1) for mean in means])
    expected = activated(5 * averages(clipped)).repeat(2, axis=1)
    np.testing.assert_allclose(steps(policy), expected, rtol=1e-4, atol=1e-6)


def test_exploration_is_averaged_after_the_box():
    class Fixed:
        actor, raw_scale = Given(), 0.5

        @staticmethod
        def explore(mean):
            return mean + 0.1

    action_map = ActionMap(raw_scale=0.5, smoothing=ALPHA)
    clipped = ((RAW.astype(np.float64) + 0.1) / 0.5).clip(-1, 1)
    assert (np.abs(clipped) == 1).any()
    found = steps(ExploringPolicy(Fixed(), action_map))  # type: ignore[arg-type]
    np.testing.assert_allclose(found, activated(0.5 * averages(clipped)), rtol=2e-4, atol=1e-6)


def test_a_step_out_of_turn_is_refused():
    policy = LearnedPolicy(Given(), ActionMap(smoothing=ALPHA), SIGMA, NUM_STEPS)
    features, one = torch.zeros(2, 1, 1), torch.tensor([1, 1])
    with pytest.raises(ValueError, match=r"^timestep: got \[1, 1\] after \[-2, -2\].*smoothing"):
        policy(features, one)
    policy(features, torch.tensor([0, 0]))
    policy(features, one)
    with pytest.raises(ValueError, match=r"^timestep: got \[1, 1\] after \[1, 1\]"):
        policy(features, one)


def test_smoothing_is_a_part_of_what_a_policy_is():
    found = {
        policy_fingerprint(LearnedPolicy(Given(), ActionMap(None, scale, alpha), SIGMA, NUM_STEPS))
        for scale, alpha in ((5.0, 0.0), (0.5, 0.0), (5.0, 0.5), (5.0, 0.8))
    }
    assert len(found) == 4


def test_a_training_keeps_its_smoothing_and_tells_what_was_applied(tmp_path, small_training):
    config = small_training(tmp_path / "run", action_smoothing=ALPHA)
    training = Training(config, progress=False)
    applied = []
    step = training.decoder.step

    def spied(actions):
        result = step(actions)
        applied.append(result[4]["action"])
        return result

    training.decoder.step = spied  # type: ignore[method-assign]
    training.run()
    assert len(applied) == 4  # two episodes of 8
    training.callback._record_rollout()
    recorded = training.callback.logger.name_to_value
    for t, columns in ((0, range(4)), (1, (1, 3))):  # m and tau_2 idle at the last step
        values = np.concatenate(applied[t::2])
        for column in columns:
            name = ("remask_ratio", "sampling_temperature", "remask_temperature", "guidance_scale")
            tag = f"{name[column]}/step{t + 1}_mean"
            assert recorded[tag] == pytest.approx(values[:, column].mean(), rel=1e-5)
    assert load_run_config(config.out).action_smoothing == ALPHA
    policy = load_policy(config.out, load_bundle("digits"))
    assert policy.action_map.smoothing == ALPHA
