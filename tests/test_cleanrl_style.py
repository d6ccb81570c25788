"""A hand-written training loop in CleanRL's style, on `gym.make_vec` and nothing else of ours."""

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Normal

import nat_env  # noqa: F401 (registers NATDecode-v0)

NUM_ENVS, NUM_STEPS, NUM_UPDATES = 64, 2, 30


def greyness(images, conditions):
    """1 for an image of mid-grey, 0 for one of black and white: hot sampling blurs the digits."""
    return (4 * images * (1 - images)).mean(dim=(1, 2, 3))


class Agent(nn.Module):
    """Actor and critic apart, a state-independent standard deviation."""

    def __init__(self, size):
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(size, 32), nn.Tanh(), nn.Linear(32, 1))
        self.actor = nn.Sequential(nn.Linear(size, 32), nn.Tanh(), nn.Linear(32, 4))
        nn.init.zeros_(self.actor[2].weight)
        self.log_std = nn.Parameter(torch.full((4,), -1.2))

    def distribution(self, observations):
        return Normal(self.actor(observations), self.log_std.exp())


def train(envs, agent):
    """PPO with whole episodes as rollouts; gives the mean return of each."""
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-2, eps=1e-5)
    observation, _ = envs.reset(seed=1)
    history = []
    for _ in range(NUM_UPDATES):
        observations, actions, log_probs, values, rewards = [], [], [], [], []
        for _ in range(NUM_STEPS):
            with torch.no_grad():
                seen = torch.from_numpy(observation)
                distribution = agent.distribution(seen)
                action = distribution.sample()
                observations.append(seen)
                actions.append(action)
                log_probs.append(distribution.log_prob(action).sum(dim=1))
                values.append(agent.critic(seen)[:, 0])
            observation, reward, terminated, truncated, infos = envs.step(
                action.clamp(-1, 1).numpy()
            )
            rewards.append(torch.from_numpy(reward).float())
            assert not truncated.any()
        assert terminated.all()
        assert infos["_final_obs"].all()
        total = torch.stack(rewards).sum(dim=0)  # gamma = lambda = 1
        history.append(total.mean().item())

        returns = total.repeat(NUM_STEPS)
        seen, action = torch.cat(observations), torch.cat(actions)
        log_prob, value = torch.cat(log_probs), torch.cat(values)
        advantage = returns - value
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        for _ in range(4):
            distribution = agent.distribution(seen)
            ratio = (distribution.log_prob(action).sum(dim=1) - log_prob).exp()
            clipped = ratio.clamp(0.8, 1.2)
            policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean()
            value_loss = (agent.critic(seen)[:, 0] - returns).square().mean()
            optimizer.zero_grad()
            (policy_loss + 0.5 * value_loss).backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
    return history


def mean_return(envs, act):
    """Of one episode a row, always the same labels and random numbers."""
    observation, _ = envs.reset(seed=10_000)
    total = np.zeros(NUM_ENVS)
    for _ in range(NUM_STEPS):
        observation, reward, *_ = envs.step(act(observation))
        total += reward
    return total.mean()


def test_a_loop_by_hand_improves_a_reward():
    envs = gym.make_vec(
        "NATDecode-v0",
        NUM_ENVS,
        bundle="digits",
        dtype="float32",
        num_steps=NUM_STEPS,
        observation="pooled",
        reward_fn=greyness,
    )
    assert envs.metadata["autoreset_mode"] is gym.vector.AutoresetMode.SAME_STEP
    (size,) = envs.single_observation_space.shape
    torch.manual_seed(0)
    agent = Agent(size)

    def mean_action(observation):
        with torch.no_grad():
            return agent.actor(torch.from_numpy(observation)).clamp(-1, 1).numpy()

    start = mean_return(envs, mean_action)
    # The most there is to win: everything drawn hot.
    best = mean_return(envs, lambda _: np.tile(np.float32([-1, 1, 0, -1]), (NUM_ENVS, 1)))
    assert best > start * 1.15
    history = train(envs, agent)
    end = mean_return(envs, mean_action)
    assert end > start + 0.6 * (best - start)
    assert np.mean(history[-5:]) > np.mean(history[:5]) + 0.4 * (best - start)
