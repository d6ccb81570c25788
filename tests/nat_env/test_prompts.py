"""Environments whose episodes are started with prompts."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import nat_env  # registers the environment
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.reals import TensorReals
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.discriminator_config import DiscriminatorConfig

DARKNESS = {"name": "prompt", "score": "toy_text:darkness"}


def make(folder, num_envs, reward_fn=DARKNESS, **options):
    options = {"num_steps": 2, "reward_fn": reward_fn} | options
    return nat_env.NATDecodeVectorEnv(num_envs, str(folder), **options)


def finish(env):
    """Rewards and final images of an episode of every row."""
    for _ in range(env.num_steps):
        rewards = env.step(np.zeros((env.num_envs, 4)))[1]
    return rewards, env.final_images


def assert_scored(toy_text, rewards, images, prompts):
    for reward, image, prompt in zip(rewards, images, prompts, strict=True):
        drawn = toy_text.drawn(prompt)
        torch.testing.assert_close(image, drawn)
        assert reward == pytest.approx(float((1 - drawn).mean()) * len(prompt), rel=1e-5)


def test_prompts_of_the_table_and_others_are_drawn_and_scored(toy_text, text_folder):
    env = make(text_folder, 3)
    prompts = ["bbb aa b", "ccc d", "a"]
    env.reset(seed=0, options={"prompt": prompts})
    assert_scored(toy_text, *finish(env), prompts)
    assert env.bundle.conditions.names == ("a bb", "ccc d")
    env.reset(options={"prompt": "aa aa aa"})
    assert_scored(toy_text, *finish(env), ["aa aa aa"] * 3)
    assert env.table.others == ["aa aa aa"]  # those of ended episodes made room
    env.reset()
    assert env.table.others == []


def test_automatic_resets_draw_from_the_bundles_own_table(toy_text, text_folder):
    """The same ones, with the same numbers, as without a prompt before."""
    one, other = make(text_folder, 8), make(text_folder, 8)
    one.reset(seed=3, options={"prompt": ["b bb bbb"] * 8})
    other.reset(seed=3, options={"condition": 1})
    finish(one), finish(other)
    assert torch.equal(one.conditions, other.conditions)
    assert set(one.conditions.tolist()) == {0, 1}
    own = [one.bundle.conditions.names[number] for number in one.conditions.tolist()]
    assert_scored(toy_text, *finish(one), own)


def test_rows_that_go_on_keep_their_prompts(toy_text, text_folder):
    env = make(text_folder, 4, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0, options={"prompt": ["b", "bb", "ccc d", "bbb"]})
    env.step(np.zeros((4, 4)))
    mask = np.array([True, False, False, False])
    env.reset(options={"prompt": ["aa a", "x", "x", "x"], "reset_mask": mask})
    assert sorted(env.table.others) == ["aa a", "bb", "bbb"]
    rewards = env.step(np.zeros((4, 4)))[1]
    assert rewards[0] == 0
    assert_scored(toy_text, rewards[1:], env.final_images, ["bb", "ccc d", "bbb"])


def test_a_row_equals_the_single_environment_with_the_same_prompt(toy_text, text_folder):
    many = make(text_folder, 2)
    observations, _ = many.reset(seed=5, options={"prompt": ["aaa", "a bb"]})
    env = gym.make("NATDecode-v0", bundle=str(text_folder), num_steps=2, reward_fn=DARKNESS)
    for row, prompt in enumerate(["aaa", "a bb"]):
        observation, _ = env.reset(seed=5 + row, options={"prompt": prompt})
        np.testing.assert_array_equal(observation["features"], observations["features"][row])
        assert observation["features"][1] == prompt.split()[0].count("a")
    env.reset(options={"prompt": ["aaa"]})
    for _ in range(2):
        *_, reward, terminated, _, _ = env.step(np.zeros(4, np.float32))
    assert terminated and reward == pytest.approx(float((1 - toy_text.drawn("aaa")).mean()) * 3)


def test_a_stored_state_has_the_prompts(toy_text, text_folder):
    env, other = make(text_folder, 2), make(text_folder, 2)
    env.reset(seed=0, options={"prompt": ["bb b", "ccc d"]})
    env.step(np.zeros((2, 4)))
    other.load_state_dict(env.state_dict())
    rewards = other.step(np.zeros((2, 4)))[1]
    assert_scored(toy_text, rewards, other.final_images, ["bb b", "ccc d"])


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (["a"], r"^prompt: got \['a'\], allowed are a text or 2 of them"),
        (3, r"^prompt: got 3"),
        (["a", ""], r"^prompt: got an empty one at place 1"),
        ("  ", r"^prompt: got an empty one"),
        (["a", "a b c d e"], r"^prompts: got 'a b c d e' of 5 words"),
    ],
)
def test_bad_prompts_change_nothing(toy_text, text_folder, prompt, message):
    env = make(text_folder, 2)
    env.reset(seed=0, options={"prompt": ["bb", "b"]})
    before = str(env.state_dict())
    with pytest.raises(ValueError, match=message):
        env.reset(seed=9, options={"prompt": prompt})
    with pytest.raises(ValueError, match=r"^prompt: allowed without condition"):
        env.reset(options={"prompt": "a", "condition": 0})
    assert str(env.state_dict()) == before
    assert_scored(toy_text, *finish(env), ["bb", "b"])


def test_the_seed_of_a_single_environment_stays_when_a_prompt_is_refused(toy_text, text_folder):
    env = gym.make("NATDecode-v0", bundle=str(text_folder), num_steps=2, reward_fn=DARKNESS)
    env.reset(seed=0)
    before = str(env.unwrapped.np_random.bit_generator.state)
    with pytest.raises(ValueError, match=r"^prompts: got 'a b c d e' of 5 words"):
        env.reset(seed=1, options={"prompt": "a b c d e"})
    assert str(env.unwrapped.np_random.bit_generator.state) == before


def test_where_numbers_are_seen_other_prompts_are_refused(toy_text, text_folder):
    env = make(text_folder, 1, observation="tokens")
    observation, _ = env.reset(options={"prompt": "ccc d"})
    assert observation["condition"].tolist() == [[1]]
    with pytest.raises(ValueError, match=r"^prompt: .*observation 'tokens'"):
        env.reset(options={"prompt": "b"})
    reals = TensorReals(torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 0, 1]))
    config = DiscriminatorConfig(widths=(8,), batch_size=4)
    pooled = load_bundle(text_folder).conditions.pooled
    model = AdversarialRewardModel(reals, 2, config, pooled=pooled)
    env = nat_env.AdversarialReward(make(text_folder, 1), model)
    with pytest.raises(ValueError, match=r"^prompt: got 'b', allowed with a discriminator"):
        env.reset(options={"prompt": "b"})
    env.reset(options={"prompt": "ccc d"})


def test_classes_are_prompts_of_their_names():
    env = nat_env.NATDecodeVectorEnv(2, "digits", 1)
    env.reset(seed=0, options={"prompt": ["7", "3"]})
    assert env.conditions.tolist() == [7, 3]
    with pytest.raises(ValueError, match=r"^prompts: got 'a cat' for conditions that are classes"):
        env.reset(options={"prompt": "a cat"})
