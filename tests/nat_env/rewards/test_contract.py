"""What every shipped reward of single images keeps to, and what handing images to one keeps."""

import numpy as np
import pytest
import torch

import nat_env
from nat_env import NATDecodeVectorEnv, load_bundle
from nat_env.bundles.reals import TensorReals
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.clip import ClipScore
from nat_env.rewards.composition import Clipped, RunningNormalized, WeightedSum
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.rewards.pretrained import JudgeLogLikelihood
from nat_env.rewards.protocol import checked_scores, scores_of
from nat_env.rewards.trunks import load_trunk
from nat_env.wrappers.shaping import PotentialShaping

DISCRIMINATORS = {
    "scratch": {},
    "logit": {"reward_form": "logit", "loss": "hinge"},
    "softplus": {"reward_form": "softplus"},
    "bundle": {"trunk": "bundle"},
    "efficientnet": {"trunk": "efficientnet", "trunk_resolution": 32},
    "transformer": {"trunk": "transformer", "trunk_resolution": 16},
}
KINDS = ("judge", "clip", "sum", "clipped", "normalized", *DISCRIMINATORS)


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


def images_of(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 8, 8, generator=generator, dtype=torch.float32)
    return images, torch.arange(count) % 10


def brightness(images, conditions):
    return images.mean(dim=(1, 2, 3)) + conditions


def discriminator(bundle, transformer_folder, **options):
    config = DiscriminatorConfig(widths=(16,), batch_size=16, learning_rate=2e-3, **options)
    path, resolution = str(transformer_folder), config.trunk_resolution
    trunk = load_trunk(config.trunk, bundle, path, resolution)
    reals = TensorReals(bundle.reals.images[:32], bundle.reals.conditions[:32])
    model = AdversarialRewardModel(reals, 10, config, trunk=trunk)
    model.update(*images_of(16, seed=5), num_updates=3)
    return model


@pytest.fixture(scope="module", params=KINDS)
def reward(request, bundle):
    kind = request.param
    if kind in DISCRIMINATORS:
        folder = request.getfixturevalue("transformer_folder")
        return discriminator(bundle, folder, **DISCRIMINATORS[kind])
    judge = JudgeLogLikelihood(bundle.yardstick.judge)
    if kind == "clip":
        prompts = [f"the digit {i}" for i in range(10)]
        return ClipScore(request.getfixturevalue("clip_folder"), prompts, batch_size=6)
    if kind == "sum":
        return WeightedSum([(0.5, judge), (-2.0, brightness)])
    if kind == "clipped":
        return Clipped(judge, -1e4, -1e-6)
    if kind == "normalized":
        normalized = RunningNormalized(judge)
        normalized(*images_of(30, seed=9))
        normalized.training = False
        return normalized
    return judge


def test_a_reward_is_a_function_of_one_image_and_its_label(reward):
    images, labels = images_of(20)
    together = reward(images, labels)
    assert together.shape == (20,)
    assert together.dtype == torch.float32
    assert len(together.unique()) > 5
    close = {"rtol": 1e-4, "atol": 1e-4}
    alone = torch.cat([reward(images[i : i + 1], labels[i : i + 1]) for i in range(20)])
    torch.testing.assert_close(alone, together, **close)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(reward(images[order], labels[order]), together[order], **close)
    others = torch.cat([images[:3], torch.ones(9, 1, 8, 8)])  # quite another batch
    torch.testing.assert_close(reward(others, labels[:12])[:3], together[:3], **close)
    assert (reward(images, (labels + 1) % 10) != together).sum() > 5


def test_a_reward_repeats_without_gradient(reward, assert_deterministic):
    assert_deterministic(reward, *images_of(8))


def test_a_reward_refuses_images_that_are_not_finite(reward):
    images, labels = images_of(4)
    images[2, 0, 3, 3] = torch.nan
    with pytest.raises(ValueError, match=r"^\w+: gave nan for 1 of 4 images, allowed are finite"):
        reward(images, labels)


def test_a_reward_is_float32_under_autocast(reward):
    images, labels = images_of(12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = scores_of(reward, images, labels)
    assert scores.dtype == torch.float32
    exact = reward(images, labels)
    assert (scores - exact).abs().max() < 0.2 * exact.abs().max()


@pytest.mark.parametrize("trunk", ["scratch", "efficientnet", "transformer"])
def test_discriminators_are_float32_whatever_torchs_default(bundle, transformer_folder, trunk):
    options = {"trunk": trunk, "trunk_resolution": 32, "augment": True}
    torch.set_default_dtype(torch.float64)
    try:
        model = discriminator(bundle, transformer_folder, **options)
        images, labels = images_of(4)
        scores = model(images, labels)
    finally:
        torch.set_default_dtype(torch.float32)
    assert scores.dtype == torch.float32
    assert {p.dtype for p in model.discriminator.parameters()} == {torch.float32}


# Images handed to somebody's function


class InPlace:
    """Darkens what it is given now, and keeps it to do so again."""

    def __init__(self):
        self.kept = []

    def __call__(self, images, conditions):
        for earlier, _ in self.kept:
            earlier.sub_(0.5)
        self.kept.append((images, conditions))
        conditions.zero_()
        return images.sub_(0.5).mean(dim=(1, 2, 3))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda own, judge: WeightedSum([(0.0, own), (1.0, judge)]),
        lambda own, judge: WeightedSum([(0.0, Clipped(own)), (1.0, judge)]),
        lambda own, judge: WeightedSum([(0.0, RunningNormalized(own)), (1.0, judge)]),
    ],
)
def test_what_a_reward_does_to_its_images_is_seen_by_nobody(bundle, wrap):
    judge, own = JudgeLogLikelihood(bundle.yardstick.judge), InPlace()
    images, labels = images_of(6)
    shown = images.clone()
    for _ in range(2):
        assert torch.equal(wrap(own, judge)(images, labels), judge(images, labels))
    assert torch.equal(images, shown)
    assert labels.tolist() == list(range(6))


def test_the_discriminator_learns_from_images_as_they_were_decoded(bundle):
    seen = {}
    for name, own in (("plain", brightness), ("in place", InPlace())):
        env = nat_env.AdversarialReward(NATDecodeVectorEnv(4, bundle, 2, reward_fn=own))
        env.reset(seed=0)
        rewards = [env.step(np.zeros((4, 4)))[1] for _ in range(4)]
        decoder = env.unwrapped
        final = decoder.final_images.clone(), decoder.final_conditions.clone()
        decoder.final_images.fill_(7)  # an outer wrapper's doing
        seen[name] = np.stack(rewards), *final, env.update(2)
    plain, other = seen.values()
    np.testing.assert_array_equal(plain[0], other[0])
    assert torch.equal(plain[1], other[1]) and torch.equal(plain[2], other[2])
    assert plain[3] == other[3]


@pytest.mark.parametrize("name", ["ids", "conditions", "timesteps", "logits"])
def test_a_potential_that_changes_the_environment_is_refused(bundle, name):
    def in_place(env):
        getattr(env, name).zero_()
        return torch.zeros(2)

    def replaced(env):
        env.ids = env.ids.clone()
        return torch.zeros(2)

    for potential in (in_place, *([replaced] if name == "ids" else [])):
        env = PotentialShaping(NATDecodeVectorEnv(2, bundle, 2), potential)
        env.reset(seed=0)
        with pytest.raises(ValueError, match=rf"^potential: changed the environment's {name}, "):
            env.step(np.zeros((2, 4)))


def test_potentials_may_be_lists(bundle):
    env = PotentialShaping(NATDecodeVectorEnv(2, bundle, 1), lambda env: [0.25, 0.5])
    env.reset(seed=0)
    assert env.step(np.zeros((2, 4)))[-1]["shaping"].tolist() == [-0.25, -0.5]


NO_NUMBERS = {
    "nothing": None,
    "a text": "high",
    "texts": ["1", "2", "3", "4"],
    "gaps": [1.0, None, 2.0, 3.0],
    "a gap of numpy": np.ma.array(np.arange(4.0), mask=[0, 1, 0, 0]),
    "objects": np.array([1, 2, 3, None], dtype=object),
    "a pair": (torch.zeros(4), {"seen": 4}),
    "a dict": {"reward": torch.zeros(4)},
    "a generator": (number for number in range(4)),
    "complex": torch.full((4,), 1 + 1j),
    "complex of numpy": np.full(4, 1 + 1j),
    "sparse": torch.eye(4)[0].to_sparse(),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_real_number_is_refused_with_the_rewards_name(kind):
    with pytest.raises(ValueError, match=r"^mine: gave .*, allowed is one real number for each of"):
        checked_scores(NO_NUMBERS[kind], 4, "mine")


@pytest.mark.parametrize("given", [[1, 0, 2, 3], (1.0, 0, 2, 3), np.array([1, 0, 2, 3], np.uint8)])
def test_numbers_of_any_kind_are_taken(given):
    parameter = torch.nn.Parameter(torch.tensor([1.0, 0, 2, 3]))
    for scores in (given, parameter, [torch.tensor(number) for number in (1, 0, 2, 3)]):
        found = checked_scores(scores, 4, "mine")
        assert found.dtype == torch.float32 and not found.requires_grad
        assert found.tolist() == [1, 0, 2, 3]
    assert checked_scores(np.ma.array([1, 0]), 2, "mine").tolist() == [1, 0]
