"""Neither torch's default dtype nor a caller's autocast changes what is decoded and rewarded.

And where a training asks for TF32, judges do without it.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from agents.runs.validation import validate
from eval.evaluation.measure import measure
from eval.judges.judge import bundle_judge
from nat_env.bundles.loading import load_bundle
from nat_env.frozen.precision import full_float32
from nat_env.generation import generate
from nat_env.models.classifier import embeddings_of
from nat_env.policies import ScheduledPolicy
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.clip import ClipScore
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.rewards.names import chosen_reward
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


# TF32

FULL, FAST = ("highest", False), ("high", True)


def allowed() -> tuple[str, bool]:
    """What torch may round products of matrices, and convolutions, to."""
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.fixture
def fast_training() -> Iterator[None]:
    """As a training sets it that asks for TF32."""
    before = allowed()
    torch.set_float32_matmul_precision(FAST[0])
    torch.backends.cudnn.allow_tf32 = FAST[1]
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def seen_by(network: torch.nn.Module, call: Callable[[], object]) -> list[tuple[str, bool]]:
    """The settings under which the layers of `network` compute in `call`, and after it."""
    seen: set[tuple[str, bool]] = set()
    hooks = [
        layer.register_forward_hook(lambda *_: seen.add(allowed()))
        for layer in network.modules()
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    ]
    call()
    for hook in hooks:
        hook.remove()
    return [*seen, allowed()]


def test_full_float32_puts_back_what_there_was(fast_training):
    with pytest.raises(KeyError), full_float32():
        assert allowed() == FULL
        with full_float32():
            pass
        assert allowed() == FULL
        raise KeyError
    assert allowed() == FAST


def test_judges_compute_without_tf32_and_the_discriminator_as_training_asks(fast_training):
    bundle = load_bundle("digits", dtype="float32")
    judge = bundle.require("yardstick").judge
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    for name in ("judge", {"name": "frechet", "capacity": 65}):
        reward = chosen_reward(name, bundle)
        assert seen_by(judge, lambda reward=reward: reward(images, labels)) == [FULL, FAST]
    assert seen_by(judge, lambda: embeddings_of(judge, images)) == [FULL, FAST]
    whole = bundle_judge(bundle)
    assert seen_by(judge, lambda: whole.probabilities(whole.embeddings(images))) == [FULL, FAST]
    schedule = ScheduledPolicy(heuristic_schedule(1))
    assert seen_by(judge, lambda: validate(bundle, schedule, 1, 40)) == [FULL, FAST]
    assert seen_by(judge, lambda: measure(bundle, schedule, 1, 4, 0, [])) == [FULL, FAST]
    model = AdversarialRewardModel(
        bundle.require("reals"), 10, DiscriminatorConfig(trunk="bundle", widths=(16,)), 3,
        load_trunk("bundle", bundle),
    )  # fmt: skip
    assert seen_by(model.discriminator, lambda: model(images, labels)) == [FAST, FAST]


def test_clip_computes_without_tf32(fast_training, clip_folder):
    clip = ClipScore(clip_folder, ["zero", "one"])
    images = torch.rand(2, 1, 8, 8)
    assert seen_by(clip.model, lambda: clip(images, torch.arange(2))) == [FULL, FAST]
