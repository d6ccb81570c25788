"""Features that stay on the device: what is learned from handles is what is learned from them."""

import numpy as np
import pytest
import torch

from agents.learners.ppo import PPO
from nat_env.bundles.loading import load_bundle
from nat_env.episodes.ring import FeatureRing
from nat_env.vector_env import NATDecodeVectorEnv
from nat_env.wrappers.adversarial import AdversarialReward

ENVS, STEPS, EPISODES = 8, 3, 2


def environment(residual="heuristic", **observed):
    return NATDecodeVectorEnv(ENVS, "digits", STEPS, dtype="float32", residual=residual, **observed)


def learned(env, rollouts=3):
    model = PPO(
        AdversarialReward(env),
        n_steps=EPISODES * STEPS,
        batch_size=12,
        warmup_timesteps=0,
        discriminator_updates=2,
        policy_kwargs={"hidden_size": 16},
        seed=0,
    )
    return model.learn(rollouts * EPISODES * STEPS * ENVS)


def handles(residual="heuristic", kept=EPISODES * STEPS + 1):
    return environment(residual, observation="handles", observations_kept=kept)


@pytest.mark.parametrize("residual", ["heuristic", "confidence-map"])
def test_what_is_learned_is_the_same_to_the_last_bit(residual):
    plain, by_handles = learned(environment(residual)), learned(handles(residual))
    for name, weights in plain.policy.state_dict().items():
        assert torch.equal(weights, by_handles.policy.state_dict()[name]), name
    start = PPO(environment(), policy_kwargs={"hidden_size": 16}, seed=0).policy.state_dict()
    assert not torch.equal(start["actor.head.weight"], plain.policy.actor.head.weight)
    stored = by_handles.rollout_buffer.observations
    assert sorted(stored) == ["slot", "timestep"]
    assert stored["slot"].size == EPISODES * STEPS * ENVS


def test_handles_lead_to_the_features_of_the_latest_observations():
    env, plain = handles(kept=3), environment()
    seen, expected = [env.reset(seed=0)[0]], [plain.reset(seed=0)[0]]
    rng = np.random.default_rng(0)
    for _ in range(2 * STEPS):
        actions = rng.uniform(-1, 1, (ENVS, 4))
        seen.append(env.step(actions)[0])
        expected.append(plain.step(actions)[0])
        for given, features in zip(seen[-3:], expected[-3:], strict=True):
            found = env.ring.rows(torch.from_numpy(given["slot"][:, 0])).flatten(1).numpy()
            np.testing.assert_array_equal(found, features["features"].astype(np.float16))
            np.testing.assert_array_equal(given["timestep"], features["timestep"])
        assert env.observation_space.contains(seen[-1])


@pytest.mark.parametrize("mode", ["Disabled", "SameStep"])
def test_a_finished_episode_has_the_slot_of_zeros(mode):
    env = environment(observation="handles", autoreset_mode=mode)
    env.reset(seed=0)
    for _ in range(STEPS):
        observation, *_, info = env.step(np.zeros((ENVS, 4)))
    last = [observation] if mode == "Disabled" else list(info["final_obs"])
    for given in last:
        assert not given["slot"].any()
        assert (given["timestep"] == STEPS).all()
    assert not env.ring.rows(torch.tensor([0])).any()


def test_places_are_written_over_in_turn():
    nat = load_bundle("digits", "float32").nat
    ring, shape = FeatureRing(2, 3, nat), (2, 16, nat.feature_size)
    kept = {}
    for turn in range(7):
        features = torch.full(shape, float(turn))
        kept |= dict.fromkeys(ring.put(features).tolist(), turn)
        for slot, value in kept.items():
            assert (ring.rows(torch.tensor([slot])) == value).all()
    assert sorted(kept) == [1, 2, 3, 4, 5, 6]
    assert sorted(kept.values()) == [4, 4, 5, 5, 6, 6]


def test_a_ring_that_forgets_too_soon_is_refused():
    with pytest.raises(ValueError, match=r"^observations_kept: got 6, allowed with n_steps = 6"):
        learned(handles(kept=6))
    with pytest.raises(ValueError, match=r"^observations_kept: got 0, allowed are integers >= 1"):
        handles(kept=0)


def test_a_model_that_is_saved_goes_on_with_another_environment(tmp_path):
    model = learned(handles(), rollouts=1)
    model.save(tmp_path / "model")
    env = AdversarialReward(handles())
    other = PPO.load(tmp_path / "model", env=env)
    other.learn(EPISODES * STEPS * ENVS, reset_num_timesteps=False)
    assert other.policy.features_extractor.ring is env.decoder.ring
    observation = {"slot": np.zeros((1, 1), np.int64), "timestep": np.zeros((1, 1), np.int64)}
    zeros = torch.zeros(1, 16, env.decoder.bundle.nat.feature_size)
    with torch.no_grad():
        mean = other.policy.actor(zeros, torch.tensor([0])) / other.policy.raw_scale
    found, _ = other.predict(observation, deterministic=True)
    np.testing.assert_allclose(found, mean.clamp(-1, 1), rtol=1e-6)
