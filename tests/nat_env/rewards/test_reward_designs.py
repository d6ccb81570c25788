"""Frechet, CLIP, composed and named rewards, each against a computation of its own."""

import json

import gymnasium as gym
import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import nat_env
from nat_env import NATDecodeVectorEnv, load_bundle, named_reward
from nat_env.bundles.judging import frechet_of
from nat_env.bundles.statistics import GaussianStatistics
from nat_env.rewards.clip import ClipScore
from nat_env.rewards.composition import Clipped, RunningNormalized, WeightedSum
from nat_env.rewards.frechet import FrechetReward
from nat_env.rewards.pretrained import JudgeLogLikelihood
from nat_env.storage.state import load_state, save_state

PROMPTS = [f"a photo of {word}" for word in ("a cat", "the sea", "x", "some old books, quite worn")]


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


def random_images(count, size=(8, 8), channels=1, seed=0):
    """Multiples of 1 / 255, as PIL keeps them."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (count, channels, *size))).float() / 255


def brightness(images, conditions):
    return images.mean(dim=(1, 2, 3)) + conditions


# The Frechet distance


def frechet_by_hand(embeddings, statistics):
    """With scipy's matrix square root, as FID codes do."""
    covariance = np.cov(embeddings, rowvar=False)
    root = scipy.linalg.sqrtm(covariance @ statistics.covariance).real
    shift = np.square(embeddings.mean(axis=0) - statistics.mean).sum()
    return shift + np.trace(covariance + statistics.covariance - 2 * root)


def test_frechet_reward_is_the_slope_of_the_distance_towards_the_batch():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((60, 3, 4, 4), dtype=np.float32))
    labels = torch.zeros(60).long()
    statistics = GaussianStatistics.from_embeddings(rng.normal(0.4, 0.3, (100, 3)))
    reward = FrechetReward(lambda batch: batch.mean(dim=(2, 3)), statistics, capacity=12)
    embeddings = images.double().mean(dim=(2, 3)).numpy()
    end, buffered = 0, 0
    for size in (8, 3, 1, 20, 5, 16, 7):
        start, end = end, end + size
        got = reward(images[start:end], labels[start:end])
        assert got.shape == (size,)
        assert got.dtype == torch.float32
        assert len(got.unique()) == 1
        expected = 0.0
        if buffered == 12:
            before = frechet_by_hand(embeddings[start - 12 : start], statistics)
            after = frechet_by_hand(embeddings[start - 12 : end], statistics)
            expected = (before - after) * (12 + size) / size
        np.testing.assert_allclose(got, expected, rtol=1e-4)
        buffered = min(12, buffered + size)
        torch.testing.assert_close(
            reward.state_dict()["embeddings"].numpy(), embeddings[end - buffered : end]
        )


def test_frechet_reward_prefers_the_batch_that_the_others_lack(bundle):
    """The classes that are missing do more than images like those there are."""
    images, labels = (
        bundle.reals.images.float() / 255,
        bundle.reals.conditions,
    )
    low, high = images[labels < 5], images[labels >= 5]
    zeros = torch.zeros(100).long()

    def slope(first, then):
        reward = FrechetReward.of_bundle(bundle, capacity=100)
        reward(first[:100], zeros)
        return reward(then[:50], zeros[:50])[0].item()

    assert slope(low, high) > max(0, slope(low, low[100:]))
    assert slope(high, low) > max(0, slope(high, high[100:]))


def test_frechet_reward_of_a_bundle_is_its_judges(bundle):
    images = bundle.reals.images[:90].float() / 255
    reward = FrechetReward.of_bundle(bundle, capacity=60)
    reward(images[:60], bundle.reals.conditions[:60])
    got = reward(images[60:], bundle.reals.conditions[60:])
    before, after = (frechet_of(bundle, [images[:n]]) for n in (60, 90))
    np.testing.assert_allclose(got, 3 * (before - after), rtol=1e-4)


def test_frechet_reward_has_no_gradient_and_goes_on_from_its_state(bundle, tmp_path):
    images, labels = random_images(90), torch.arange(90) % 10
    whole, broken = FrechetReward.of_bundle(bundle, 50), FrechetReward.of_bundle(bundle, 50)
    for reward in (whole, broken):
        assert not reward(images[:60].clone().requires_grad_(), labels[:60]).requires_grad
    save_state(tmp_path / "state.safetensors", broken.state_dict())
    resumed = FrechetReward.of_bundle(bundle, 50)
    resumed.load_state_dict(load_state(tmp_path / "state.safetensors"))
    assert torch.equal(resumed(images[60:], labels[60:]), whole(images[60:], labels[60:]))
    smaller = FrechetReward.of_bundle(bundle, 40)
    smaller.load_state_dict(whole.state_dict())
    assert torch.equal(smaller.state_dict()["embeddings"], whole.state_dict()["embeddings"][-40:])


def test_frechet_reward_refuses(bundle):
    with pytest.raises(ValueError, match=r"^capacity: got 32, allowed is > 32"):
        FrechetReward.of_bundle(bundle, 32)
    reward = FrechetReward(
        lambda x: x[:, 0, 0] / x[:, 0, 0], GaussianStatistics([0] * 8, np.eye(8), 9)
    )
    with pytest.raises(ValueError, match=r"^embeddings: gave values that are not finite; mend"):
        reward(torch.zeros(3, 1, 8, 8), torch.zeros(3).long())  # 0 / 0
    assert len(reward.state_dict()["embeddings"]) == 0
    with pytest.raises(ValueError, match=r"^embeddings: gave shape \(3, 64\)"):
        FrechetReward(
            lambda images: images.flatten(1)[:, :64], GaussianStatistics(np.zeros(3), np.eye(3), 9)
        )(random_images(3), torch.zeros(3).long())
    with pytest.raises(ValueError, match=r"^embeddings: got shape"):
        FrechetReward.of_bundle(bundle).load_state_dict({"embeddings": torch.zeros(4, 1)})


# CLIP


def transformers_scores(folder, images, prompts):
    """Cosines [B, P] by transformers alone: PIL images, its processor, its forward pass."""
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    pixels = (images * 255).round().byte()
    pictures = [Image.fromarray(i.expand(3, -1, -1).permute(1, 2, 0).numpy()) for i in pixels]
    inputs = processor(
        text=prompts,
        images=pictures,
        padding="max_length",
        max_length=24,
        truncation=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        output = model(**inputs)
    return output.logits_per_image / model.logit_scale.exp(), inputs["pixel_values"]


def test_clip_score_is_the_models_own_cosine(clip_folder):
    """At the model's resolution there is nothing to resize, and so nothing to round."""
    images = random_images(24, (24, 24), seed=1)
    labels = torch.arange(24) % len(PROMPTS)
    cosines, pixels = transformers_scores(clip_folder, images, PROMPTS)
    chosen = cosines[range(24), labels]
    assert (chosen > 0.05).any()
    assert (chosen < -0.05).any()
    reward = ClipScore(clip_folder, PROMPTS)
    torch.testing.assert_close(reward.prepared(images), pixels, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        reward(images, labels), 100 * chosen.clamp(min=0), rtol=1e-4, atol=1e-3
    )
    half = ClipScore(clip_folder, PROMPTS, scale=2.5, batch_size=5)
    torch.testing.assert_close(
        half(images, labels), 2.5 * chosen.clamp(min=0), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (40, 61), (70, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_prepared_as_by_the_models_processor(clip_folder, size, channels):
    # No full black or white: PIL clips a bicubic filter's overshoot after each of its two passes.
    images = ((random_images(6, size, channels, seed=2) * 115).round() + 70) / 255
    _, pixels = transformers_scores(clip_folder, images, PROMPTS)
    prepared = ClipScore(clip_folder, PROMPTS).prepared(images)
    # It also rounds to bytes after each; one of them is 1 / 255 / 0.26 = 0.015 here.
    assert prepared.shape == pixels.shape == (6, 3, 24, 24)
    assert (prepared - pixels).abs().max() < 0.03
    assert (prepared - pixels).abs().mean() < 0.006


def test_a_processor_without_crop_is_followed(clip_folder, tmp_path):
    from transformers import CLIPProcessor

    processor = CLIPProcessor.from_pretrained(clip_folder)
    processor.image_processor.do_center_crop = False
    processor.image_processor.size = {"height": 24, "width": 24}
    for path in clip_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    processor.save_pretrained(tmp_path)
    images = ((random_images(4, (30, 50), seed=3) * 115).round() + 70) / 255
    _, pixels = transformers_scores(tmp_path, images, PROMPTS)
    prepared = ClipScore(tmp_path, PROMPTS).prepared(images)
    cropped = ClipScore(clip_folder, PROMPTS).prepared(images)
    assert (cropped - prepared).abs().max() > 0.1
    assert (prepared - pixels).abs().max() < 0.03


def test_what_is_no_clip_is_refused(clip_folder, tmp_path):
    with pytest.raises(ValueError, match=r"^path_or_id: got '.*nowhere'"):
        ClipScore(tmp_path / "nowhere", PROMPTS)
    with pytest.raises(ValueError, match=r"^path_or_id: got "):
        ClipScore(tmp_path, PROMPTS)  # empty
    for path in clip_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    ClipScore(tmp_path, PROMPTS)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"^path_or_id: .* lacks 1 "):
        ClipScore(tmp_path, PROMPTS)
    whole = (clip_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"^path_or_id: got "):
        ClipScore(tmp_path, PROMPTS)
    for prompts in ([], "a cat"):
        with pytest.raises(ValueError, match=r"^prompts: got "):
            ClipScore(clip_folder, prompts)
    with pytest.raises(ValueError, match=r"^batch_size: got 0"):
        ClipScore(clip_folder, PROMPTS, batch_size=0)


# Rewards of rewards


def test_weighted_sum_and_clipped_by_hand(bundle):
    images, labels = random_images(12), torch.arange(12) % 10
    judge = JudgeLogLikelihood(bundle.yardstick.judge)
    a, b = judge(images, labels).double(), brightness(images, labels).double()
    got = WeightedSum([(0.25, judge), (-3, brightness)])(images, labels)
    torch.testing.assert_close(got.double(), 0.25 * a - 3 * b, rtol=1e-5, atol=1e-5)
    b = b.numpy()
    low, high = np.quantile(b, [0.3, 0.6]).tolist()
    for bounds, expected in [
        ({"low": low, "high": high}, np.minimum(np.maximum(b, low), high)),
        ({"low": low}, np.maximum(b, low)),
        ({"high": high}, np.minimum(b, high)),
    ]:
        np.testing.assert_allclose(Clipped(brightness, **bounds)(images, labels), expected, 1e-5)


def test_running_normalisation_is_by_all_images_seen(tmp_path):
    reward = RunningNormalized(brightness, epsilon=1e-12)
    images, labels = random_images(40), torch.arange(40) % 10
    values = brightness(images, labels).double().numpy() + 1000
    reward.reward = lambda i, c: brightness(i, c) + 1000  # a mean that is large beside the spread
    end = 0
    for size in (1, 5, 20, 3, 11):
        start, end = end, end + size
        got = reward(images[start:end], labels[start:end])
        seen = values[:end]
        expected = (values[start:end] - seen.mean()) / max(seen.std(), 1e-6)
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
    assert reward.count == 40
    assert reward.variance == pytest.approx(values.var(), rel=1e-3)
    save_state(tmp_path / "state.safetensors", reward.state_dict())
    resumed = RunningNormalized(reward.reward, training=False, epsilon=1e-12)
    with pytest.raises(ValueError, match=r"^training: got False"):
        resumed(images, labels)
    resumed.load_state_dict(load_state(tmp_path / "state.safetensors"))
    reward.training = False
    for _ in range(2):
        assert torch.equal(resumed(images[:9], labels[:9]), reward(images[:9], labels[:9]))
    assert resumed.state_dict() == reward.state_dict()
    np.testing.assert_allclose(
        reward(images, labels), (values - values.mean()) / values.std(), rtol=1e-3, atol=1e-3
    )


def test_compositions_go_on_from_the_states_of_their_parts(bundle, tmp_path):
    """Every kind around every other, with the Frechet reward's buffer innermost."""

    def nested():
        remembering = Clipped(WeightedSum([(0.1, FrechetReward.of_bundle(bundle, 70))]), low=-1e4)
        others = [
            (0.5, RunningNormalized(brightness)),
            (1.0, JudgeLogLikelihood(bundle.yardstick.judge)),
        ]
        return WeightedSum([(2.0, RunningNormalized(remembering)), *others])

    images, labels = random_images(160), torch.arange(160) % 10
    first, later = slice(0, 80), slice(80, 160)
    whole, broken = nested(), nested()
    for reward in (whole, broken):
        reward(images[first], labels[first])
    save_state(tmp_path / "state.safetensors", broken.state_dict())
    resumed = nested()
    resumed.load_state_dict(load_state(tmp_path / "state.safetensors"))
    expected = whole(images[later], labels[later])
    assert torch.equal(resumed(images[later], labels[later]), expected)
    assert not torch.equal(nested()(images[later], labels[later]), expected)


def test_rewards_that_are_alike_are_not_divided_by_zero():
    reward = RunningNormalized(lambda images, conditions: torch.full((len(images),), 0.1))
    for _ in range(3):
        assert reward(random_images(7), torch.zeros(7)).abs().max() < 1e-3


@pytest.mark.parametrize("wrap", [lambda r: WeightedSum([(1, r)]), Clipped, RunningNormalized])
def test_a_reward_that_gives_no_finite_number_an_image_is_refused(wrap):
    images, labels = random_images(3), torch.arange(3)
    with pytest.raises(ValueError, match=r"^reward_fn: gave shape \(3, 1\)"):
        wrap(lambda i, c: i.mean(dim=(2, 3)))(images, labels)
    with pytest.raises(ValueError, match=r"^reward_fn: gave nan for "):
        wrap(lambda i, c: torch.tensor([np.nan, 1.0, 2.0]))(images, labels)


def test_compositions_refuse():
    with pytest.raises(ValueError, match=r"^terms: got weights \[\]"):
        WeightedSum([])
    with pytest.raises(ValueError, match=r"^terms: got weights \[1.0, inf\]"):
        WeightedSum([(1.0, brightness), (float("inf"), brightness)])
    for low, high in [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)]:
        with pytest.raises(ValueError, match=r"^low, high: got "):
            Clipped(brightness, low, high)
    with pytest.raises(ValueError, match=r"^epsilon: got 0"):
        RunningNormalized(brightness, epsilon=0)


# Names


def play(env, steps=4):
    env.reset(seed=3)
    for _ in range(steps):
        yield env.step(np.zeros((env.num_envs, 4), np.float32))


def test_an_environment_takes_a_name_a_dict_or_a_function(bundle, clip_folder):
    kwargs = {"bundle": "digits", "num_steps": 2, "dtype": "float32", "observation": "tokens"}
    clip = {"name": "clip", "path_or_id": str(clip_folder), "prompt": "digit {}", "scale": 2.5}
    prompts = [f"digit {name}" for name in bundle.conditions.names]
    choices = [
        ("judge", JudgeLogLikelihood(bundle.yardstick.judge)),
        ("frechet", FrechetReward.of_bundle(bundle)),
        ({"name": "frechet", "capacity": 40}, FrechetReward.of_bundle(bundle, capacity=40)),
        (clip, ClipScore(clip_folder, prompts, scale=2.5)),
        (brightness, brightness),
    ]
    for choice, reward in choices:
        env = gym.make_vec("NATDecode-v0", 5, reward_fn=choice, **kwargs)
        rewarded = 0
        for _, rewards, terminated, *_ in play(env):
            images, labels = env.unwrapped.final_images, env.unwrapped.final_conditions
            assert terminated.all() == (images is not None)
            if images is not None:
                rewarded += 1
                np.testing.assert_allclose(rewards, reward(images, labels), rtol=1e-5, atol=1e-6)
        assert rewarded == 2


def test_rewards_of_rewards_are_described_by_plain_values(bundle):
    clipped = {"name": "clipped", "reward": "judge", "low": -0.05, "high": -0.003}
    terms = [[0.25, "judge"], [-3, clipped], [1.0, {"name": "normalized", "reward": clipped}]]
    choice = json.loads(json.dumps({"name": "sum", "terms": terms}))
    env = gym.make_vec(
        "NATDecode-v0", 20, bundle="digits", num_steps=1, dtype="float32", reward_fn=choice
    )
    likelihoods = np.zeros(0)
    for _, rewards, *_ in play(env, 2):
        images, labels = env.unwrapped.final_images, env.unwrapped.final_conditions
        logits = bundle.yardstick.judge(images).log_softmax(dim=1)
        latest = logits[range(20), labels].double().detach().numpy()
        likelihoods = np.concatenate([likelihoods, latest])
        seen = likelihoods.clip(-0.05, -0.003)
        normalized = (seen[-20:] - seen.mean()) / seen.std()
        expected = 0.25 * latest - 3 * seen[-20:] + normalized
        np.testing.assert_allclose(rewards, expected, rtol=1e-3, atol=1e-3)
    assert (likelihoods < -0.05).any() and (likelihoods > -0.003).any()
    single = gym.make("NATDecode-v0", bundle="digits", num_steps=1, reward_fn=choice)
    single.reset(seed=0)
    assert np.isfinite(single.step(np.zeros(4, np.float32))[1])


def test_what_is_wrong_within_a_description_is_named(bundle):
    for options, message in [
        ({"name": "sum"}, r"^reward options: .*'terms'.*; allowed are: terms$"),
        ({"name": "sum", "terms": []}, r"^terms: got weights \[\]"),
        ({"name": "sum", "terms": ["judge"]}, r"^terms: got \['judge'\], allowed is a list of \["),
        ({"name": "sum", "terms": [["judge", 1.0]]}, r"^terms: got .*a list of \[weight, reward\]"),
        ({"name": "sum", "terms": 3}, r"^terms: got 3"),
        ({"name": "sum", "terms": [[1.0, "fid"]]}, r"^reward name: got 'fid'"),
        ({"name": "sum", "terms": [[1.0, {"name": "frechet", "size": 3}]]}, "got {'size': 3} for"),
        ({"name": "clipped", "reward": {"low": 1.0}}, r"^reward_fn: got {'low': 1.0}"),
        ({"name": "clipped", "reward": "judge", "low": None}, r"^low, high: got None and inf"),
        ({"name": "clipped", "reward": "judge", "low": 2.0, "high": 1.0}, r"^low, high: got 2.0"),
        ({"name": "normalized", "reward": {"name": ["judge"]}}, r"^reward name: got \['judge'\]"),
        ({"name": "normalized", "reward": "adversarial"}, r"^reward name: got 'adversarial'"),
    ]:
        with pytest.raises(ValueError, match=message):
            NATDecodeVectorEnv(2, bundle, reward_fn=options)


def test_the_single_environment_takes_names_and_the_judge_is_its_default():
    rewards = {}
    frechet = {"reward_fn": {"name": "frechet", "capacity": 33}}
    for choice in ({}, {"reward_fn": "judge"}, frechet):
        env = gym.make("NATDecode-v0", bundle="digits", num_steps=1, dtype="float32", **choice)
        env.reset(seed=0)
        seen = rewards[str(choice)] = []
        for _ in range(34):
            seen.append(env.step(np.zeros(4, np.float32))[1])
            env.reset()
    default, judge, frechet = rewards.values()
    assert default == judge
    assert frechet[:33] == [0.0] * 33  # the buffer fills
    assert frechet[33] != 0


def test_each_environment_has_a_buffer_of_its_own(bundle):
    choice = {"name": "frechet", "capacity": 39}
    one, two = (NATDecodeVectorEnv(2, bundle, 1, reward_fn=choice) for _ in range(2))
    assert choice == {"name": "frechet", "capacity": 39}
    assert one.reward_fn is not two.reward_fn
    assert len(list(play(one, 3))) == 3
    assert len(one.reward_fn.state_dict()["embeddings"]) == 6
    assert len(two.reward_fn.state_dict()["embeddings"]) == 0


def test_names_and_options_that_do_not_fit_are_refused(bundle):
    assert nat_env.named_reward is named_reward
    with pytest.raises(
        ValueError,
        match=r"'fid', allowed are 'judge', .* 'clip', 'prompt', 'sum', 'clipped', 'normalized'$",
    ):
        named_reward("fid", bundle)
    with pytest.raises(ValueError, match=r"wrapper, nat_env.AdversarialReward\(env\); allowed"):
        named_reward("adversarial", bundle)
    with pytest.raises(ValueError, match=r"'size'.*; allowed are: capacity$"):
        named_reward("frechet", bundle, size=3)
    with pytest.raises(ValueError, match=r"allowed are: none$"):
        named_reward("judge", bundle, size=3)
    with pytest.raises(ValueError, match=r"path_or_id.*; allowed are: path_or_id, prompt, scale$"):
        named_reward("clip", bundle)
    with pytest.raises(ValueError, match=r"^reward options: got \{'bundle': 'fashion'\}"):
        NATDecodeVectorEnv(2, bundle, reward_fn={"name": "judge", "bundle": "fashion"})
    with pytest.raises(ValueError, match=r"^prompt: got 'a photo'"):
        named_reward("clip", bundle, path_or_id="nowhere", prompt="a photo")
    for choice in (3, None, {}, {"capacity": 3}, ["judge"]):
        with pytest.raises(ValueError, match=r"^reward_fn: got .*'judge', 'frechet', 'clip'"):
            NATDecodeVectorEnv(2, bundle, reward_fn=choice)


def test_the_environment_refuses_rewards_that_are_not_finite(bundle):
    env = NATDecodeVectorEnv(2, bundle, 1, reward_fn=lambda i, c: torch.full((2,), torch.inf))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^reward_fn: gave inf for 2 of 2"):
        env.step(np.zeros((2, 4)))
