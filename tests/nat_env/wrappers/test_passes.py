"""What passes cost: by hand, beside the environment itself, in rows that end apart."""

import numpy as np
import pytest

from nat_env import NATDecodeVectorEnv, PassDiscount, StepCost, load_bundle

NUM_STEPS = 4


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


def make(bundle, **kwargs):
    bright = {"reward_fn": lambda images, conditions: images.mean(dim=(1, 2, 3))}
    return NATDecodeVectorEnv(6, bundle, **({"num_steps": NUM_STEPS} | bright | kwargs))


def play(env, num_steps=12):
    """Random actions, of which some reveal all; rows that ended are reset if nobody else does."""
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(num_steps):
        _, rewards, terminated, _, info = env.step(rng.uniform(-1, 1, (6, 4)))
        yield rewards, terminated, info["passes"]
        if env.unwrapped.metadata["autoreset_mode"].value == "Disabled" and terminated.any():
            env.reset(options={"reset_mask": terminated})


@pytest.mark.parametrize("options", [{"aligned": True}, {"autoreset_mode": "Disabled"}, {}])
def test_an_image_is_worth_less_by_a_factor_a_pass(bundle, options):
    lengths = set()
    plain, paying = make(bundle, **options), PassDiscount(make(bundle, **options), 0.8)
    for (before, ended, passes), (after, *_) in zip(play(plain), play(paying), strict=True):
        for row in range(6):
            share = 0.8 ** (passes[row] - 1) if ended[row] else 1.0
            assert after[row] == pytest.approx(before[row] * share)
        lengths |= set(passes[ended].tolist())
    assert lengths >= {1, 2, 3}


@pytest.mark.parametrize("options", [{"aligned": True}, {}])
def test_costs_of_an_episode_are_those_of_its_passes(bundle, options):
    plain, paying = make(bundle, **options), StepCost(make(bundle, **options), 0.25)
    difference, episodes = np.zeros(6), 0
    for (before, ended, passes), (after, *_) in zip(play(plain), play(paying), strict=True):
        difference += before - after
        np.testing.assert_allclose(difference[ended], 0.25 * passes[ended], atol=1e-9)
        difference[ended] = 0.0
        episodes += ended.sum()
    assert episodes >= 12


@pytest.mark.parametrize("factor", [0.0, -0.5, 1.1, float("nan")])
def test_a_factor_out_of_range_is_refused(bundle, factor):
    with pytest.raises(ValueError, match=f"^factor: got {factor}, allowed is > 0 and <= 1"):
        PassDiscount(make(bundle), factor)
