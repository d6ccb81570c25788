"""A running average of the actions in the environment, against a loop with AdaGen's formulas."""

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from nat_env import ActionMap, NATDecodeEnv, NATDecodeVectorEnv, load_bundle
from nat_env.schedules import authors_schedule

NUM_STEPS, ALPHA = 3, 0.8


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


def make(bundle, num_envs=2, **kwargs):
    kwargs = {"num_steps": NUM_STEPS, "observation": "tokens", "residual": "authors"} | kwargs
    return NATDecodeVectorEnv(num_envs, bundle, **kwargs)


def residual():
    """Before the activations, smoothed back: q_t = (h_t - alpha h_(t-1)) / (1 - alpha)."""
    table = authors_schedule(NUM_STEPS).table.double().numpy()
    h = np.concatenate([logit(table[:, :1]), np.log(np.expm1(table[:, 1:]))], axis=1)
    q = h.copy()
    q[1:] = (h[1:] - ALPHA * h[:-1]) / (1 - ALPHA)
    return q


def physical(raw):
    return np.concatenate([expit(raw[:, :1]), np.logaddexp(0, raw[:, 1:])], axis=1)


def test_actions_are_averaged_over_an_episode_and_forgotten_at_the_next(bundle):
    env = make(bundle, action_smoothing=ALPHA)
    env.reset(seed=0)
    rng, q = np.random.default_rng(0), residual()
    for _ in range(2):
        average = np.zeros((2, 4))
        for step in range(NUM_STEPS):
            actions = rng.uniform(-1, 1, (2, 4)).astype(np.float32)
            before = 5.0 * actions.astype(np.float64) + q[step]
            average = before if step == 0 else ALPHA * average + (1 - ALPHA) * before
            *_, info = env.step(actions)
            np.testing.assert_allclose(info["action"], physical(average), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_a_row_that_starts_later_forgets_its_own_actions_alone(bundle, mode):
    env = make(bundle, action_smoothing=ALPHA, autoreset_mode=mode)
    env.reset(seed=0)
    for _ in range(NUM_STEPS if mode == "NextStep" else 1):
        env.step(np.full((2, 4), 0.5, np.float32))
    if mode == "NextStep":
        env.step(np.full((2, 4), -1.0, np.float32))  # of no effect: both rows start again
    else:
        env.reset(options={"reset_mask": np.array([True, False])})
    *_, info = env.step(np.full((2, 4), -0.5, np.float32))
    q = residual()
    started = physical(np.full((1, 4), -2.5) + q[0])[0]
    average = ALPHA * (2.5 + q[0]) + (1 - ALPHA) * (-2.5 + q[1])
    other = started if mode == "NextStep" else physical(average[None])[0]
    np.testing.assert_allclose(info["action"], [started, other], rtol=2e-5, atol=1e-6)


def test_zero_stays_the_schedule_to_the_bit(bundle):
    smoothed, plain = make(bundle, action_smoothing=ALPHA), make(bundle)
    for env in (smoothed, plain):
        env.reset(seed=0)
    for _ in range(2 * NUM_STEPS):
        zeros = np.zeros((2, 4), np.float32)
        left, right = smoothed.step(zeros), plain.step(zeros)
        np.testing.assert_array_equal(left[4]["action"], right[4]["action"])
        np.testing.assert_array_equal(left[0]["ids"], right[0]["ids"])


def test_no_smoothing_is_each_step_by_itself():
    actions, before = torch.rand(5, 4), torch.rand(5, 4)
    assert ActionMap().smoothed(actions, torch.arange(5), before) is actions


def test_single_environments_and_a_restored_state_go_on_alike(bundle):
    env, other = make(bundle, action_smoothing=ALPHA), make(bundle, action_smoothing=ALPHA)
    singles = [
        NATDecodeEnv(bundle, NUM_STEPS, "tokens", residual="authors", action_smoothing=ALPHA)
        for _ in range(2)
    ]
    env.reset(seed=4)
    for row, single in enumerate(singles):
        single.reset(seed=4 + row)
    rng = np.random.default_rng(1)
    for step in range(NUM_STEPS):
        actions = rng.uniform(-1, 1, (2, 4)).astype(np.float32)
        if step:
            other.load_state_dict(env.state_dict())
            *_, restored = other.step(actions)
        *_, info = env.step(actions)
        if step:
            np.testing.assert_array_equal(restored["action"], info["action"])
        for row, single in enumerate(singles):
            *_, alone = single.step(actions[row])
            np.testing.assert_array_equal(alone["action"], info["action"][row])


@pytest.mark.parametrize("alpha", [-0.1, 1.0, float("nan"), "0.5"])
def test_other_averages_are_refused(bundle, alpha):
    with pytest.raises(ValueError, match=r"^smoothing: got .* allowed is a number in \[0, 1\)"):
        make(bundle, action_smoothing=alpha)
