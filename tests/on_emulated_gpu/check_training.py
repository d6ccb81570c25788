"""Training: the same learned policies as on the CPU, to the bit, and what rewards wait for."""

import dataclasses
from pathlib import Path

import pytest
import torch

from agents.learners.config import TrainConfig
from agents.training.callbacks import RoundCallback
from agents.training.train import Training
from nat_env.bundles.discriminator_reals import discriminator_reals
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.reals import ReconstructedReals
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.rewards.names import named_reward
from nat_env.rewards.protocol import scores_of
from nat_env.rewards.trunks import load_trunk
from nat_env.storage.state import load_state
from nat_env.vector_env import NATDecodeVectorEnv
from nat_env.wrappers.adversarial import AdversarialReward

TINY = TrainConfig(
    Path(),
    bundle="digits",
    dtype="float32",
    num_steps=2,
    budget=3 * 16,
    trajectories_per_round=16,
    hidden_size=8,
    batch_size=16,
    epochs=2,
    discriminator=DiscriminatorConfig(trunk="bundle", widths=(8,), batch_size=8),
    discriminator_updates=2,
    warmup_rounds=1,
    eval_every=3,
    num_samples=40,
    threads=1,
)
OTHER = {
    name: getattr(TrainConfig(Path()), name) for name in ("batch_size", "epochs", "hidden_size")
}
OTHER |= {"trajectories_per_round": 128, "budget": 128, "warmup_rounds": 0, "eval_every": 0}
"""Of learners that have no use for some of these."""
SCRATCH = DiscriminatorConfig(widths=(8, 16), batch_size=8, augment=True, r1=1.0, flip=True)


def trained(out, device, **changes):
    """What a run leaves behind: everything that it would go on with, and its evaluations."""
    training = Training(
        dataclasses.replace(TINY, out=out, device=device, **changes), progress=False
    )
    results = training.run()
    state = load_state(out / "state.safetensors")
    parts = {name: state[name] for name in ("learner", "reward", "environment", "random")}
    history = [{k: v for k, v in row.items() if "seconds" not in k} for row in results["history"]]
    return parts | {"history": history}


@pytest.mark.parametrize(
    "changes",
    [
        {"fresh_samples": False},
        OTHER | {"algo": "stock-ppo", "reward": "frechet", "num_envs": 8},
        OTHER | {"algo": "a2c", "reward": "judge"},
        OTHER | {"algo": "sac", "reward": "judge"},
    ],
    ids=["ppo", "stock-ppo", "a2c", "sac"],
)
def test_a_training_learns_what_it_learns_on_the_cpu(tmp_path, changes, assert_same):
    there = trained(tmp_path / "there", "emulated", **changes)
    assert_same(there, trained(tmp_path / "here", "cpu", **changes))


def test_an_interrupted_training_goes_on_to_what_the_cpu_learns(tmp_path, monkeypatch, assert_same):
    options = {"fresh_samples": True, "discriminator": SCRATCH}
    on_rollout_end, rounds = RoundCallback._on_rollout_end, []

    def stop(self):
        rounds.append(None)
        if len(rounds) == 2:
            raise KeyboardInterrupt
        on_rollout_end(self)

    with monkeypatch.context() as patch:
        patch.setattr(RoundCallback, "_on_rollout_end", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "there", "emulated", **options)
    resumed = trained(tmp_path / "there", "emulated", resume=True, **options)
    assert_same(resumed, trained(tmp_path / "here", "cpu", **options))


def test_a_training_waits_for_the_device_no_more_often_than_it_has_to(tmp_path, recorded):
    rounds, steps = 3, TINY.num_steps
    options = {"eval_every": 0, "warmup_rounds": 0, "budget": rounds * TINY.trajectories_per_round}
    with recorded() as events:
        trained(tmp_path, "emulated", **options)
    waits = events.syncs()
    # Within a step what was drawn and what the transformer gave is looked at; at an episode's end
    # two rewards are read, the environment's and the discriminator's; of an update what it found.
    rooms = ("nat_env/bundles/", "nat_env/storage/")  # once at the start, and when it is saved
    found = {k: n for k, n in waits.items() if k.startswith("nat_env/") and not k.startswith(rooms)}
    assert sum(found.values()) <= rounds * (2 * steps + 2 + 1), str(events)
    # Sigma, which the callback reads for the log; stable-baselines3's lines are its own.
    learners = {k: n for k, n in waits.items() if k.startswith("agents/learners/")}
    assert sum(learners.values()) <= 3 * rounds, str(events)


def discriminator(device, streamed=False, prompts=False, **options):
    bundle = load_bundle("digits", "float32", device)
    config = DiscriminatorConfig(**({"trunk": "bundle", "widths": (8,), "batch_size": 8} | options))
    trunk = load_trunk(config.trunk, bundle)
    reals = discriminator_reals(bundle)
    if streamed:
        reals = ReconstructedReals(bundle.require("reals"), bundle.tokenizer, bundle.device)
    pooled = torch.rand(11, 6, generator=torch.Generator().manual_seed(0)) if prompts else None
    model = AdversarialRewardModel(reals, 10, config, 0, trunk, bundle.device, pooled)
    images = torch.rand(20, *reals.image_shape, generator=torch.Generator().manual_seed(1))
    return model, images.to(device), (torch.arange(20) % 10).to(device)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompts": True},
        {"flip": True, "r1": 1.0},
        {"trunk": "scratch", "widths": (8, 16), "augment": True, "streamed": True},
    ],
    ids=["bundle", "prompts", "flip-r1", "scratch-streamed"],
)
def test_updates_of_the_discriminator_wait_once_for_the_device(options, recorded, assert_same):
    model, images, labels = discriminator("emulated", **options)
    model.update(images, labels)
    with recorded() as events:
        found = model.update(images, labels, num_updates=3)
    assert events.syncs().total() == 1, str(events)
    assert all(line.startswith("nat_env/frozen/transfers.py") for line in events.sent)
    other, *shown = discriminator("cpu", **options)
    other.update(*shown)
    assert_same(found, other.update(*shown, num_updates=3))


@pytest.mark.parametrize("name", ["judge", "frechet", "discriminator"])
def test_a_reward_waits_once_for_the_device(name, recorded):
    model, images, labels = discriminator("emulated")
    bundle = load_bundle("digits", "float32", "emulated")
    reward = model if name == "discriminator" else named_reward(name, bundle)
    with recorded() as events:
        scores = scores_of(reward, images, labels)
    assert events.syncs().total() == 1 and scores.device.type == "cpu", str(events)


def test_the_discriminators_reward_adds_one_wait_to_the_end_of_an_episode(recorded):
    bundle = load_bundle("digits", "float32", "emulated")
    bundle.nat.first_passes(torch.arange(10))  # kept from here on, whatever episodes begin with

    def waits(env):
        env.reset(seed=0)
        found = []
        for _ in range(2):
            for _ in range(2):
                with recorded() as events:
                    env.step(env.action_space.sample() * 0)
                found.append(events.syncs().total())
        return found[2:]

    plain = waits(NATDecodeVectorEnv(3, bundle, num_steps=2))
    model, *_ = discriminator("emulated")
    wrapped = waits(AdversarialReward(NATDecodeVectorEnv(3, bundle, num_steps=2), model))
    assert wrapped == [plain[0], plain[1] + 1]
