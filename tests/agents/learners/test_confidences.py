"""Policies that see how sure the NAT is: the same numbers whatever its width."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import softmax

from agents.learners.ppo import PPO
from agents.learners.trained import LearnedPolicy
from agents.runs.checkpoint import load_policy
from agents.training.train import Training
from eval.evaluation.policies import ShuffledPolicy
from nat_env import ActionMap, NATDecodeVectorEnv, generate, heuristic_schedule, load_bundle
from nat_env.bundles.bundle import Bundle
from nat_env.frozen.nat import FrozenNAT
from nat_env.models.uvit import UViT, UViTConfig

T, B = 3, 4


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


def make(bundle, **options):
    return NATDecodeVectorEnv(B, bundle, T, observation="confidences", **options)


def test_an_observation_has_the_largest_probability_of_each_masked_token(bundle):
    env = make(bundle, residual="heuristic", autoreset_mode="Disabled")
    observation, _ = env.reset(seed=0)
    for _ in range(T):
        pairs = observation["features"].reshape(B, bundle.num_tokens, 2)
        assert observation["features"].dtype == np.float32
        masked = (env.ids == bundle.nat.mask_id).numpy()
        sure = softmax(env.logits.double().numpy(), axis=-1).max(axis=-1)
        np.testing.assert_allclose(pairs[..., 0], np.where(masked, sure, 1.0), rtol=1e-4)
        np.testing.assert_array_equal(pairs[..., 1], masked)
        assert env.observation_space.contains(observation)
        observation, *_ = env.step(np.zeros((B, 4), np.float32))
    assert not observation["features"].any() and (observation["timestep"] == T).all()


@pytest.fixture
def config(small_training):
    """Of a policy that sees confidences."""
    return partial(
        small_training, budget=32, num_envs=None, observation="confidences", learning_rate=0.05
    )


def test_what_is_learned_sees_in_decoding_what_it_saw_in_training(tmp_path, bundle, config):
    """The same actions of the same seeds, by the environment and by `generate`."""
    env = make(bundle, residual="heuristic", autoreset_mode="Disabled", aligned=True)
    Training(config(tmp_path, num_steps=T), progress=False).run()
    policy = load_policy(tmp_path, bundle)
    assert isinstance(policy, LearnedPolicy) and policy.observation == "confidences"
    torch.nn.init.normal_(policy.actor.head.weight, std=0.3)  # so that it adapts
    policy.test_action, told = "mean", []
    observation, _ = env.reset(seed=4, options={"condition": [0, 1, 2, 3]})
    for step in range(T):
        features = torch.from_numpy(observation["features"]).unflatten(1, (-1, 2))
        physical = policy(features, torch.full((B,), step))
        told.append(physical)
        at = env.action_map.actions(physical, env.timesteps)
        observation, *_ = env.step(at.numpy())
    found = []
    generate(
        bundle, policy, [0, 1, 2, 3], T, seed=4, on_step=lambda record: found.append(record.actions)
    )
    for mine, theirs in zip(told, found, strict=True):
        torch.testing.assert_close(theirs, mine, atol=1e-3, rtol=1e-3)
    assert told[1].std(dim=0).min() > 1e-4
    assert ShuffledPolicy(policy, 0).observation == "confidences"


@pytest.fixture
def wider(bundle):
    """Another NAT of as many tokens: other features, random weights."""
    shape = UViTConfig(
        codebook_size=64, grid=(4, 4), num_classes=10, hidden_size=24, depth=3, num_heads=2
    )
    return Bundle("other", bundle.conditions, FrozenNAT(UViT(shape), 10), bundle.tokenizer)


def test_a_policy_goes_with_another_transformer_of_as_many_tokens(tmp_path, bundle, wider, config):
    Training(config(tmp_path / "run"), progress=False).run()
    policy = load_policy(tmp_path / "run", bundle)
    carried = load_policy(tmp_path / "run", wider)
    at = torch.zeros(2, dtype=torch.int64)
    features = torch.rand(2, 16, 2)
    assert torch.equal(policy(features, at), carried(features, at))
    assert generate(wider, carried, [1, 2], 2, seed=0).shape == (2, 1, 8, 8)
    Training(config(tmp_path / "own", observation="features"), progress=False).run()
    with pytest.raises(ValueError, match=r"^run: .* is a run of another bundle than 'other'"):
        load_policy(tmp_path / "own", wider)
    with pytest.raises(ValueError, match=r"^run: .* is for tokens on \[4, 4\], .* has \[7, 7\]"):
        load_policy(tmp_path / "run", load_bundle("fashion"))


def test_ppo_learns_on_them_and_tells_what_its_policy_sees(bundle):
    env = make(bundle, residual="heuristic")
    model = PPO(env, seed=0, batch_size=12)
    assert model.policy.hidden_size == 64  # not the two numbers of a token
    model.learn(B * T)
    policy = model.decoding_policy()
    assert policy.observation == "confidences"
    assert generate(bundle, policy, [1], T, seed=0).shape == (1, 1, 8, 8)


def test_other_learners_and_other_names_are_refused(tmp_path, bundle, config):
    with pytest.raises(ValueError, match=r"^observation: got 'confidences', allowed with sac"):
        Training(config(tmp_path / "run", algo="sac", learning_rate=1.2e-3), progress=False)
    assert not (tmp_path / "run").exists()
    policy = LearnedPolicy(torch.nn.Identity(), ActionMap(heuristic_schedule(T)), 0.1, T)
    policy.observation = "logits"
    with pytest.raises(ValueError, match=r"^policy: got one of the observation 'logits'"):
        generate(bundle, policy, [1], T, seed=0)
