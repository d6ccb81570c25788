"""Neither torch's default dtype nor a caller's autocast changes what is decoded and rewarded."""

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from nat_env.bundles.loading import load_bundle
from nat_env.generation import generate
from nat_env.policies import ScheduledPolicy
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.rewards.trunks import load_trunk
from nat_env.schedules import heuristic_schedule
from nat_env.vector_env import NATDecodeVectorEnv
from nat_env.wrappers.adversarial import AdversarialReward


@pytest.fixture
def float64_default() -> Iterator[None]:
    load_bundle.cache_clear()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    load_bundle.cache_clear()


def rollout(context, trunk: str) -> list[np.ndarray]:
    """Observations and rewards of all kinds, and images."""
    found = []
    with context:
        bundle = load_bundle("digits", dtype="float32")
        model = AdversarialRewardModel(
            bundle.require("reals"), 10, DiscriminatorConfig(trunk=trunk, widths=(16,)), 3,
            load_trunk(trunk, bundle),
        )  # fmt: skip
        for form in ("features", "pooled"):
            for reward in ("judge", {"name": "frechet", "capacity": 65}):
                env = AdversarialReward(
                    NATDecodeVectorEnv(2, bundle, 2, form, reward_fn=reward, residual="heuristic"),
                    model,
                )
                env.reset(seed=0)
                for _ in range(2):
                    observation, rewards, *_, info = env.step(np.zeros((2, 4), np.float32))
                    flat = observation["features"] if form == "features" else observation
                    assert env.observation_space.contains(observation)
                    found += [flat, rewards, info["original_reward"], info["action"]]
        found.append(np.array(list(env.update(2).values())))
        policy = ScheduledPolicy(heuristic_schedule(2))
        images = generate(bundle, policy, torch.arange(10), 2, seed=0)
        assert model(images, torch.arange(10)).dtype == torch.float32
        found += [images.numpy(), bundle.tokenizer.encode(images).numpy()]
    return found


@pytest.fixture(scope="module", params=["bundle", "scratch"])
def usual(request: pytest.FixtureRequest) -> tuple[str, list[np.ndarray]]:
    return request.param, rollout(nullcontext(), request.param)


def check(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_a_default_of_float64_changes_nothing(usual, float64_default):
    trunk, expected = usual
    check(rollout(nullcontext(), trunk), expected)


def test_autocast_changes_nothing(usual):
    trunk, expected = usual
    check(rollout(torch.autocast("cpu", dtype=torch.bfloat16), trunk), expected)
