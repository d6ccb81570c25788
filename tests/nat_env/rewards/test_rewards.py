"""Rewards: per sample and deterministic, losses by hand, a discriminator that learns, resumes."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nat_env import NATDecodeVectorEnv, load_bundle
from nat_env.bundles.discriminator_reals import discriminator_reals
from nat_env.bundles.reals import TensorReals
from nat_env.rewards import adversarial
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.discriminator import TrunkDiscriminator
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.rewards.pretrained import JudgeLogLikelihood
from nat_env.rewards.trunks import ClassifierTrunk
from nat_env.storage.state import load_state, save_state
from nat_env.wrappers.adversarial import AdversarialReward
from nat_env.wrappers.passes import StepCost

NUM_STEPS = 2
SMALL = DiscriminatorConfig(widths=(8, 16), batch_size=16, learning_rate=2e-3)


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


def stub_images(size, bright, seed=0):
    """Bright or dark noise [size, 1, 8, 8] and labels: easily told apart."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(size, 1, 8, 8, generator=generator) * 0.4 + (0.6 if bright else 0.0)
    return images, torch.randint(10, (size,), generator=generator)


def stub_model(config=SMALL, seed=0, bright=True):
    return AdversarialRewardModel(TensorReals(*stub_images(64, bright, 1)), 10, config, seed)


def make_env(bundle, num_envs=6, **kwargs):
    return NATDecodeVectorEnv(num_envs, bundle, NUM_STEPS, "tokens", **kwargs)


# The judge


def test_judge_reward_is_the_log_likelihood_of_the_label(bundle):
    images = bundle.reals.images[:50].float() / 255
    labels = bundle.reals.conditions[:50]
    logits = bundle.yardstick.judge(images).double().numpy()
    expected = logits[range(50), labels] - np.log(np.exp(logits).sum(axis=1))
    rewards = JudgeLogLikelihood(bundle.yardstick.judge)(images, labels)
    np.testing.assert_allclose(rewards, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        rewards, bundle.yardstick.judge(images).log_softmax(1)[range(50), labels]
    )
    assert (rewards <= 0).all()


def test_the_environment_is_rewarded_by_its_judge(bundle):
    env = make_env(bundle)
    env.reset(seed=0)
    env.step(np.zeros((6, 4)))
    _, rewards, terminated, _, info = env.step(np.zeros((6, 4)))
    assert terminated.all()
    ids = torch.from_numpy(np.stack([f["ids"] for f in info["final_obs"]]))
    labels = torch.tensor([int(f["condition"][0]) for f in info["final_obs"]])
    scores = bundle.yardstick.judge(bundle.tokenizer.decode(ids)).log_softmax(1)[range(6), labels]
    np.testing.assert_allclose(rewards, scores, rtol=1e-5)


def test_a_reward_of_ones_own_sees_final_images_and_labels(bundle):
    seen = []

    def reward(images, conditions):
        seen.append((images, conditions))
        return images.mean(dim=(1, 2, 3)) + conditions

    env = make_env(bundle, reward_fn=reward, autoreset_mode="Disabled")
    env.reset(seed=0, options={"condition": [3, 1, 4, 1, 5, 9]})
    assert not env.step(np.zeros((6, 4)))[1].any()
    assert not seen
    _, rewards, *_ = env.step(np.zeros((6, 4)))
    images, conditions = seen.pop()
    assert not seen
    assert conditions.tolist() == [3, 1, 4, 1, 5, 9]
    torch.testing.assert_close(images, bundle.tokenizer.decode(env.ids))
    np.testing.assert_allclose(rewards, images.mean((1, 2, 3)) + conditions, rtol=1e-6)


# The discriminator


@pytest.mark.parametrize(
    ("form", "function"),
    [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("logit", lambda x: x),
        ("softplus", lambda x: np.log1p(np.exp(x))),
    ],
)
def test_reward_is_a_form_of_the_mean_logit(form, function):
    model = stub_model(DiscriminatorConfig(widths=(8, 16), batch_size=16, reward_form=form))
    model.update(*stub_images(16, False, 2))
    images, labels = stub_images(9, False, 3)
    with torch.no_grad():
        logits = model.discriminator.eval()(images, labels)
    assert logits.shape == (9, 4)  # 2 x 2 positions
    expected = function(logits.double().numpy().mean(axis=1))
    np.testing.assert_allclose(model(images, labels), expected, rtol=1e-5)


def test_feature_discriminator_by_hand():
    """Each branch on its stage of the frozen network, the mean over positions of each head."""
    frozen = load_bundle("digits").trunk
    torch.manual_seed(0)
    network = TrunkDiscriminator(ClassifierTrunk(frozen), num_conditions=10, width=8)
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([3, 1, 4, 1])
    hidden = images * 2 - 1
    stages = []
    for index, layer in enumerate(frozen.layers):
        hidden = layer(hidden)
        if index in (2, 8):  # convolution, norm, ReLU; then twice that a stage
            stages.append(hidden)
    torch.testing.assert_close(stages[-1].mean(dim=(2, 3)), frozen.embeddings(images))
    (branch,), (head,) = network.branches, network.heads
    output = head.output.weight[0, :, 0, 0] + head.class_embedding.weight[labels]
    expected = (branch(stages[1]) * output[:, :, None, None]).sum(dim=1).mean(dim=(1, 2))
    logits = network(images, labels)
    torch.testing.assert_close(logits[:, 0], expected + head.output.bias)
    torch.testing.assert_close(network(images[2:3], labels[2:3]), logits[2:3])


def test_frozen_features_are_neither_trained_nor_saved():
    frozen = load_bundle("digits").trunk
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    config = DiscriminatorConfig(trunk="bundle", widths=(8,), batch_size=16)
    reals = torch.rand(32, 1, 8, 8)
    model = AdversarialRewardModel(
        TensorReals(reals, torch.zeros(32).long()), 10, config, trunk=ClassifierTrunk(frozen)
    )
    for _ in range(3):
        model.update(torch.rand(16, 1, 8, 8), torch.zeros(16).long())
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert not any("frozen" in name for name in model.state_dict()["discriminator"])
    with pytest.raises(ValueError, match="trunk"):
        AdversarialRewardModel(TensorReals(reals, torch.zeros(32).long()), 10, config)


def test_logits_by_hand():
    """Strided convolutions with group norm, then a linear output plus a projection on the class."""
    model = stub_model()
    model.update(*stub_images(16, False, 2))
    network = model.discriminator
    images, labels = stub_images(5, False, 3)
    first, _, second, norm, _ = network.layers
    hidden = F.conv2d(images * 2 - 1, first.weight, first.bias, stride=2, padding=1)
    hidden = F.conv2d(F.leaky_relu(hidden, 0.2), second.weight, second.bias, stride=2, padding=1)
    groups = hidden.unflatten(1, (8, -1))  # [B, 8, W / 8, h, w]
    mean = groups.mean(dim=(2, 3, 4), keepdim=True)
    variance = groups.var(dim=(2, 3, 4), keepdim=True, unbiased=False)
    hidden = ((groups - mean) / (variance + norm.eps).sqrt()).flatten(1, 2)
    hidden = hidden * norm.weight[:, None, None] + norm.bias[:, None, None]
    hidden = F.leaky_relu(hidden, 0.2)
    projection = network.head.class_embedding.weight[labels]
    output = network.head.output.weight[0, :, 0, 0] + projection  # [B, W]
    expected = (hidden * output[:, :, None, None]).sum(dim=1) + network.head.output.bias
    torch.testing.assert_close(network(images, labels), expected.flatten(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["bce", "hinge"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_loss_and_accuracies_by_hand(loss, as_bytes):
    config = DiscriminatorConfig(widths=(8, 16), batch_size=16, learning_rate=5e-3, loss=loss)
    # All real images alike: which of them the update draws does not matter.
    image, label = stub_images(1, True, 5)
    reals = image.repeat(32, 1, 1, 1)
    if as_bytes:
        reals = (reals * 255).round().byte()
    model = AdversarialRewardModel(TensorReals(reals, label.repeat(32)), 10, config, seed=3)
    for step in range(4):
        images, labels = stub_images(12, step % 2 == 0, 10 + step)
        twin = copy.deepcopy(model.discriminator).train()
        with torch.no_grad():
            shown = reals[:12].double() / 255 if as_bytes else reals[:12].double()
            on_real = twin(shown.float(), label.repeat(12)).double().numpy()
            on_fake = twin(images, labels).double().numpy()
        if loss == "bce":
            expected = np.log1p(np.exp(-on_real)).mean() + np.log1p(np.exp(on_fake)).mean()
        else:
            expected = np.maximum(0, 1 - on_real).mean() + np.maximum(0, 1 + on_fake).mean()
        result = model.update(images, labels)
        assert set(result) == {"loss", "accuracy_real", "accuracy_fake"}
        assert result["loss"] == pytest.approx(expected, rel=1e-4)
        assert result["accuracy_real"] == pytest.approx((on_real.mean(axis=1) > 0).mean())
        assert result["accuracy_fake"] == pytest.approx((on_fake.mean(axis=1) < 0).mean())


@pytest.mark.parametrize("loss", ["bce", "hinge"])
def test_discriminator_learns_what_is_separable(loss):
    config = DiscriminatorConfig(widths=(8, 16), batch_size=16, learning_rate=5e-3, loss=loss)
    model = stub_model(config)
    results = [model.update(*stub_images(16, False, seed)) for seed in range(60)]
    assert results[-1]["loss"] < 0.6 * results[0]["loss"]
    assert results[-1]["accuracy_real"] == results[-1]["accuracy_fake"] == 1.0
    real, fake = (model(*stub_images(50, bright, 100)) for bright in (True, False))
    assert real.min() > fake.max()


def test_discriminator_learns_the_class():
    """Bright images of label 0 and dark ones of label 1 are real, the opposite is generated."""
    images = torch.cat([stub_images(64, bright)[0] for bright in (True, False)])
    labels = torch.tensor([0, 1]).repeat_interleave(64)
    model = AdversarialRewardModel(TensorReals(images, labels), 2, SMALL)
    for _ in range(150):
        chosen = torch.randperm(128, generator=model.generator)[:32]
        result = model.update(images[chosen], 1 - labels[chosen])
    assert min(result["accuracy_real"], result["accuracy_fake"]) > 0.9
    assert model(images, labels).min() > model(images, 1 - labels).max()


@pytest.mark.parametrize("loss", ["bce", "hinge"])
def test_state_round_trip_goes_on_exactly(tmp_path, loss, assert_same):
    config = DiscriminatorConfig(widths=(8, 16), batch_size=16, loss=loss)

    def learn(model, steps):
        return [model.update(*stub_images(16, False, step)) for step in steps]

    whole, broken = stub_model(config), stub_model(config)
    results = learn(whole, range(8))
    assert learn(broken, range(4)) == results[:4]
    save_state(tmp_path / "state.safetensors", broken.state_dict())
    resumed = stub_model(config, seed=99)  # other weights, other order of the real images
    resumed.load_state_dict(load_state(tmp_path / "state.safetensors"))
    torch.manual_seed(7)
    assert learn(resumed, range(4, 8)) == results[4:]
    save_state(tmp_path / "whole.safetensors", whole.state_dict())
    save_state(tmp_path / "resumed.safetensors", resumed.state_dict())
    assert_same(
        load_state(tmp_path / "resumed.safetensors"), load_state(tmp_path / "whole.safetensors")
    )
    images, labels = stub_images(20, False, 50)
    assert torch.equal(resumed(images, labels), whole(images, labels))


def test_the_seed_decides_weights_and_order_of_reals():
    images, labels = stub_images(16, False, 2)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, same, other = stub_model(), stub_model(), stub_model(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one(images, labels), same(images, labels))
    assert not torch.equal(one(images, labels), other(images, labels))
    assert [one.update(images, labels) for _ in range(3)] == [
        same.update(images, labels) for _ in range(3)
    ]


@pytest.mark.parametrize(
    ("name", "value"), [("loss", "wasserstein"), ("loss", ""), ("reward_form", "log")]
)
def test_unknown_names_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"^{name}: got "):
        DiscriminatorConfig(**{name: value})


def test_too_few_real_images_are_refused():
    with pytest.raises(ValueError, match=r"^reals: got 15"):
        AdversarialRewardModel(TensorReals(*stub_images(15, True)), 10, SMALL)
    AdversarialRewardModel(TensorReals(*stub_images(16, True)), 10, SMALL)


# The wrapper


def play(env, episodes=2, seed=0):
    """Observations, rewards and infos of whole episodes with actions fixed by the seed."""
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    return [
        env.step(rng.uniform(-1, 1, (env.num_envs, 4)).astype(np.float32))
        for _ in range(NUM_STEPS * episodes)
    ]


@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_wrapper_replaces_the_reward_and_nothing_else(bundle, bypass, mode):
    plain = make_env(bundle, autoreset_mode=mode)
    decoder = make_env(bundle, autoreset_mode=mode)
    wrapped = AdversarialReward(decoder, stub_model(), bypass=bypass)
    rng = np.random.default_rng(0)
    observation, _ = plain.reset(seed=0)
    for key, value in wrapped.reset(seed=0)[0].items():
        np.testing.assert_array_equal(value, observation[key])
    ended, originals = 0, []
    for _ in range(3 * NUM_STEPS):
        actions = rng.uniform(-1, 1, (6, 4)).astype(np.float32)
        observation, original, terminated, truncated, info = plain.step(actions)
        wrapped_observation, rewards, *flags, wrapped_info = wrapped.step(actions)
        for key, value in wrapped_observation.items():
            np.testing.assert_array_equal(value, observation[key])
        np.testing.assert_array_equal(flags, [terminated, truncated])
        np.testing.assert_array_equal(wrapped_info["original_reward"], original)
        np.testing.assert_array_equal(wrapped_info["action"], info["action"])
        assert ("final_obs" in wrapped_info) == ("final_obs" in info)
        expected = np.zeros(6)
        if terminated.any():
            ended += 1
            scores = wrapped.model(plain.final_images, plain.final_conditions).numpy()
            expected[terminated] = scores
            originals.extend(original[terminated])
            assert wrapped.original_mean == pytest.approx(np.mean(originals))
        if bypass:
            np.testing.assert_array_equal(rewards, original)
        else:
            np.testing.assert_allclose(rewards, expected, rtol=1e-6)
    assert ended >= 2
    wrapped.update(1)
    assert np.isnan(wrapped.original_mean)


def test_a_reward_of_single_steps_inside_is_replaced_at_every_step(bundle):
    env = AdversarialReward(StepCost(make_env(bundle), 1.0), stub_model())
    _, rewards, terminated, *_ = map(np.stack, zip(*(step[:3] for step in play(env)), strict=True))
    assert terminated.any() and ((rewards > 0) == terminated).all() and rewards.min() == 0


def test_widths_that_leave_nothing_of_an_image_are_refused():
    reals, labels = torch.zeros(200, 1, 8, 8), torch.zeros(200, dtype=torch.int64)
    for widths in ((8, 8, 8), (8, 8, 8, 64)):
        with pytest.raises(ValueError, match=r"^widths: got \(8, 8, 8"):
            AdversarialRewardModel(
                TensorReals(reals, labels), 2, DiscriminatorConfig(widths=widths)
            )
    AdversarialRewardModel(TensorReals(reals, labels), 2, DiscriminatorConfig(widths=(8, 8, 16)))


def test_only_rows_that_end_are_rewarded(bundle):
    decoder = make_env(bundle)
    env = AdversarialReward(decoder, stub_model())
    env.reset(seed=0)
    env.step(np.zeros((6, 4)))
    env.reset(options={"reset_mask": np.arange(6) % 2 == 0})
    _, rewards, terminated, _, info = env.step(np.zeros((6, 4)))
    assert terminated.tolist() == [False, True] * 3
    assert (rewards != 0).tolist() == [False, True] * 3
    assert (info["original_reward"] != 0).tolist() == [False, True] * 3
    assert env.original_mean == pytest.approx(info["original_reward"][1::2].mean())
    expected = env.model(decoder.final_images, decoder.final_conditions)
    np.testing.assert_allclose(rewards[1::2], expected, rtol=1e-6)


def test_an_update_changes_no_reward_that_was_given(bundle):
    env = AdversarialReward(make_env(bundle), stub_model())
    steps = play(env)
    rewards = [s[1] for s in steps]
    kept = [r.copy() for r in rewards]
    images, labels = stub_images(8, False, 6)
    before = env.model(images, labels)
    env.update(3)
    for given, copied in zip(rewards, kept, strict=True):
        np.testing.assert_array_equal(given, copied)
    assert not torch.allclose(env.model(images, labels), before)
    again = [s[1] for s in play(env)]  # the same images, another discriminator
    for now, then in zip(again, kept, strict=True):
        np.testing.assert_array_equal(now == then, then == 0)
    assert any(then.any() for then in kept)


def test_rewards_of_a_rollout_come_from_one_discriminator(bundle, assert_same):
    env = AdversarialReward(make_env(bundle), stub_model())
    state = copy.deepcopy(env.model.discriminator.state_dict())
    play(env, episodes=3)
    assert_same(dict(env.model.discriminator.state_dict()), dict(state))


class Recorder:
    """Stands in for the model and keeps what it learns from."""

    def __init__(self):
        self.given = []

    def __call__(self, images, conditions):
        return torch.full((len(images),), 0.25)

    def update(self, images, conditions, num_updates):
        self.given.append((images, conditions))
        return {"loss": float(num_updates)}


def test_update_learns_from_what_was_decoded_since_the_last(bundle):
    recorder = Recorder()
    env = AdversarialReward(make_env(bundle, 3), recorder)
    decoder = env.unwrapped
    for episodes in (1, 2):
        env.reset(seed=episodes)
        images, labels = [], []
        for _ in range(NUM_STEPS * episodes):
            rewards = env.step(np.zeros((3, 4)))[1]
            if decoder.final_images is not None:
                images.append(decoder.final_images)
                labels.append(decoder.final_conditions)
                assert rewards.tolist() == [0.25] * 3
        everything = {
            (tuple(i.flatten().tolist()), int(c))
            for i, c in zip(torch.cat(images), torch.cat(labels), strict=True)
        }
        recorder.given.clear()
        assert env.update(3) == {"loss": 3.0}
        (given,) = recorder.given
        assert len(given[0]) == 3 * episodes
        shown = {(tuple(i.flatten().tolist()), int(c)) for i, c in zip(*given, strict=True)}
        assert shown == everything


def test_without_updates_the_newest_images_wait_up_to_the_capacity(bundle):
    recorder = Recorder()
    env = AdversarialReward(make_env(bundle, 3), recorder, capacity=7)
    env.reset(seed=0)
    images = []
    for _ in range(NUM_STEPS * 4):
        env.step(np.zeros((3, 4)))
        if env.unwrapped.final_images is not None:
            images.append(env.unwrapped.final_images)
    env.update(1)
    newest = torch.cat(images)[-7:]
    shown = sorted(i.flatten().tolist() for i in recorder.given[0][0])
    assert shown == sorted(i.flatten().tolist() for i in newest)
    with pytest.raises(ValueError, match=r"^capacity: "):
        AdversarialReward(make_env(bundle), recorder, capacity=-1)


@pytest.mark.parametrize("trunk", ["scratch", "bundle"])
@pytest.mark.parametrize("limit", [0, 2**29])
def test_updates_are_single_steps_on_batches_drawn_anew(bundle, trunk, limit, monkeypatch):
    """Against steps one by one, the frozen features computed anew in each."""
    monkeypatch.setattr(adversarial, "EMBEDDINGS_LIMIT", limit)
    monkeypatch.setattr(adversarial, "EMBEDDED_AT_ONCE", 20)
    asked = []  # how many images at a time

    class Asked(ClassifierTrunk):
        def stages(self, images):
            asked.append(len(images))
            return super().stages(images)

    config = DiscriminatorConfig(trunk=trunk, widths=(8, 16), batch_size=16)
    reals, real_labels = stub_images(64, True, 1)
    frozen = None if trunk == "scratch" else Asked(bundle.trunk)
    model, twin = (
        AdversarialRewardModel(TensorReals(reals, real_labels), 10, config, trunk=frozen)
        for _ in range(2)
    )
    images, labels = stub_images(50, False)
    result = model.update(images, labels, num_updates=4)
    if trunk == "bundle":  # one image tells how large what is kept of all would be
        each_step = [16, 16] * 4
        once = [20, 20, 10, 20, 20, 20, 4]
        assert [n for n in asked if n > 1] == (once if limit else each_step)
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([1 / (real_labels == label).sum() for label in real_labels])
    losses = []
    for _ in range(4):
        fake = torch.randperm(50, generator=generator)[:16]
        real = torch.multinomial(weights, 16, replacement=True, generator=generator)
        on_fake = twin.discriminator(images[fake], labels[fake])
        on_real = twin.discriminator(reals[real], real_labels[real])
        loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        twin.optimizer.zero_grad()
        loss.backward()
        twin.optimizer.step()
        losses.append(loss.item())
    assert result["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    torch.testing.assert_close(model(images, labels), twin(images, labels), rtol=1e-4, atol=1e-5)


def test_real_classes_are_drawn_alike_however_frequent(monkeypatch):
    labels = torch.tensor([0] * 180 + [1] * 20)
    config = DiscriminatorConfig(widths=(8, 16), batch_size=100)
    model = AdversarialRewardModel(TensorReals(torch.rand(200, 1, 8, 8), labels), 2, config)
    drawn = []

    def record(self, real, embedding, labels, *rest):
        drawn.append(labels)
        return torch.zeros(3)

    monkeypatch.setattr(AdversarialRewardModel, "_step", record)
    model.update(torch.rand(100, 1, 8, 8), torch.arange(100) % 2, num_updates=60)
    assert torch.cat(drawn).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_update_with_nothing_to_learn_from_is_refused(bundle, assert_same):
    env = AdversarialReward(make_env(bundle), stub_model())
    with pytest.raises(ValueError, match=r"^images: "):
        env.update()
    env.reset(seed=0)
    env.step(np.zeros((6, 4)))
    with pytest.raises(ValueError, match=r"^images: "):
        env.update()
    env.step(np.zeros((6, 4)))
    env.update(1)
    state = copy.deepcopy(env.model.discriminator.state_dict())
    with pytest.raises(ValueError, match=r"^images: "):
        env.update()  # the buffer was emptied
    assert_same(dict(env.model.discriminator.state_dict()), dict(state))
    env.update(1, *stub_images(16, False))
    with pytest.raises(ValueError, match=r"^images: "):
        env.update()


def test_fresh_samples_take_the_place_of_the_buffer(bundle):
    recorder = Recorder()
    env = AdversarialReward(make_env(bundle, 3), recorder)
    play(env)
    images, labels = stub_images(8, False)
    env.update(1, images, labels)
    shown, shown_labels = recorder.given[0]
    order = [int((images == image).flatten(1).all(dim=1).nonzero()) for image in shown]
    assert sorted(order) == list(range(8))
    assert torch.equal(shown_labels, labels[order])
    with pytest.raises(ValueError, match=r"^images: "):
        env.update()


def test_the_default_model_sees_the_bundles_reals(bundle):
    for reals in ("raw", "reconstructed"):
        model = AdversarialReward(make_env(bundle), reals=reals).model
        assert torch.equal(model.reals.images, discriminator_reals(bundle, reals).images)
        assert torch.equal(model.reals.conditions, bundle.reals.conditions)
    default = AdversarialReward(make_env(bundle)).model
    assert torch.equal(default.reals.images, model.reals.images)


def test_another_environment_is_refused():
    with pytest.raises(ValueError, match=r"^env: got "):
        AdversarialReward(gym.make_vec("CartPole-v1", 2), stub_model())


# Numbers that are not finite


def test_a_discriminators_nan_is_refused_by_name(bundle):
    env = AdversarialReward(make_env(bundle), stub_model())
    env.reset(seed=0)
    env.step(np.zeros((6, 4)))
    with torch.no_grad():
        next(env.model.discriminator.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"^discriminator: gave nan for 6 of 6 images"):
        env.step(np.zeros((6, 4)))
    recorder = Recorder()
    recorder_env = AdversarialReward(make_env(bundle), recorder)
    recorder_env.reset(seed=0)
    recorder_env.step(np.zeros((6, 4)))
    recorder_env.model = lambda images, conditions: torch.full((len(images), 1), 0.5)
    with pytest.raises(ValueError, match=r"^discriminator: gave shape \(6, 1\)"):
        recorder_env.step(np.zeros((6, 4)))


@pytest.mark.parametrize("cause", ["images", "loss", "gradient", "moments"])
def test_an_update_that_is_not_finite_is_undone(bundle, assert_same, cause):
    model = stub_model()
    env = AdversarialReward(make_env(bundle), model)
    env.update(2, *stub_images(16, False))
    play(env, 1)
    images, labels = stub_images(16, False, 3)
    if cause == "images":
        images[5, 0, 2, 2] = torch.nan
    weight = model.discriminator.head.output.weight
    if cause == "loss":
        with torch.no_grad():
            weight.fill_(3e38)
    if cause in ("gradient", "moments"):  # moments: its square is more than float32 has
        value = torch.nan if cause == "gradient" else 1e30
        handle = weight.register_hook(lambda gradient: torch.full_like(gradient, value))
    before = copy.deepcopy(model.state_dict())
    wrong = "1" if cause == "images" else "0"
    message = rf"^discriminator: its update .* was undone; mend the images \({wrong} of 16 are not"
    with pytest.raises(ValueError, match=message):
        env.update(3, images, labels)
    assert_same(dict(model.state_dict()), dict(before))
    if cause in ("gradient", "moments"):
        handle.remove()
    if cause != "loss":
        assert np.isfinite(env.update(1)["loss"])  # of the rollout's images, which still wait


def test_an_update_of_nothing_is_refused():
    model, images = stub_model(), stub_images(16, False)
    for count, given in ((0, images), (1, (images[0][:0], images[1][:0]))):
        with pytest.raises(ValueError, match=r"^num_updates, images: got "):
            model.update(*given, count)


def test_weights_are_drawn_by_the_seed_without_seeding_accelerators(monkeypatch):
    called = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", called.append)
    before = torch.get_rng_state()
    model = stub_model(seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert not called
    torch.manual_seed(5)  # the same weights as by torch's own seed
    fresh = type(model.discriminator)(1, 10, SMALL.widths)
    for one, other in zip(fresh.parameters(), model.discriminator.parameters(), strict=True):
        assert torch.equal(one, other)
