"""The single-file example in CleanRL's style: it learns what is best for a reward of its own."""

import importlib.util
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

EXAMPLE = Path(__file__).parents[2] / "notebooks" / "cleanrl_style_ppo.py"
NUM_ENVS, NUM_STEPS = 64, 2


def load_example():
    specification = importlib.util.spec_from_file_location(EXAMPLE.stem, EXAMPLE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def greyness(images, conditions):
    """1 for an image of mid-grey, 0 for one of black and white: hot sampling blurs the digits."""
    return (4 * images * (1 - images)).mean(dim=(1, 2, 3))


def mean_return(envs, act):
    """Of one episode a row, always the same labels and random numbers."""
    observation, _ = envs.reset(seed=10_000)
    total = np.zeros(NUM_ENVS)
    for _ in range(NUM_STEPS):
        observation, reward, *_ = envs.step(act(observation))
        total += reward
    return total.mean()


def test_a_loop_by_hand_improves_a_reward(capsys):
    example = load_example()
    envs = gym.make_vec(
        "NATDecode-v0",
        NUM_ENVS,
        bundle="digits",
        dtype="float32",
        num_steps=NUM_STEPS,
        observation="pooled",
        reward_fn=greyness,
        aligned=True,
    )
    assert envs.metadata["autoreset_mode"] is gym.vector.AutoresetMode.SAME_STEP
    torch.manual_seed(0)
    agent = example.Agent(*envs.single_observation_space.shape)

    def mean_action(observation):
        with torch.no_grad():
            return agent.actor(torch.from_numpy(observation)).clamp(-1, 1).numpy()

    start = mean_return(envs, mean_action)
    # The most there is to win: everything drawn hot.
    best = mean_return(envs, lambda _: np.tile(np.float32([-1, 1, 0, -1]), (NUM_ENVS, 1)))
    assert best > start * 1.15
    args = example.Args(num_steps=NUM_STEPS, num_updates=30, seed=1)
    history = example.train(envs, agent, args)
    end = mean_return(envs, mean_action)
    assert end > start + 0.6 * (best - start)
    assert np.mean(history[-5:]) > np.mean(history[:5]) + 0.4 * (best - start)
    assert f"{np.mean(history[-10:]):.4f}" in capsys.readouterr().out.splitlines()[-1]
