"""PPO for decoding in one file, in CleanRL's style: Gymnasium, torch, and nothing of `agents`.

python notebooks/cleanrl_style_ppo.py --bundle digits --num-updates 100
"""

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Normal

import nat_env  # noqa: F401 (registers NATDecode-v0)


@dataclass(frozen=True)
class Args:
    """Learn m, tau_1, tau_2, w of every step from the features of the frozen transformer."""

    bundle: str = "digits"
    num_steps: int = 4
    """T, decoding steps of an episode."""
    reward: str = "judge"
    """A reward's name; the judge's log-likelihood of the class needs nothing else."""
    num_envs: int = 64
    num_updates: int = 100
    epochs: int = 4
    learning_rate: float = 1e-2
    clip: float = 0.2
    value_coefficient: float = 0.5
    max_grad_norm: float = 0.5
    seed: int = 0


class Agent(nn.Module):
    """Actor and critic apart, a standard deviation that does not depend on the state."""

    def __init__(self, size: int) -> None:
        """Of observations with `size` numbers."""
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(size, 32), nn.Tanh(), nn.Linear(32, 1))
        last = nn.Linear(32, 4)
        nn.init.zeros_(last.weight)
        self.actor = nn.Sequential(nn.Linear(size, 32), nn.Tanh(), last)
        self.log_std = nn.Parameter(torch.full((4,), -1.2))

    def distribution(self, observations: Tensor) -> Normal:
        """Gaussian of actions in the box [-1, 1]."""
        return Normal(self.actor(observations), self.log_std.exp())


def train(envs: gym.vector.VectorEnv, agent: Agent, args: Args) -> list[float]:
    """Whole episodes as rollouts, gamma = lambda = 1; gives the mean return of each."""
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    observation, _ = envs.reset(seed=args.seed)
    history = []
    for update in range(args.num_updates):
        # Rollout: the first row of a new episode comes with the last step of the old one.
        observations, actions, log_probs, values, rewards = [], [], [], [], []
        for _ in range(args.num_steps):
            seen = torch.from_numpy(observation)
            with torch.no_grad():
                distribution = agent.distribution(seen)
                action = distribution.sample()
                values.append(agent.critic(seen)[:, 0])
            observations.append(seen)
            actions.append(action)
            log_probs.append(distribution.log_prob(action).sum(dim=1))
            observation, reward, terminated, _, _ = envs.step(action.clamp(-1, 1).numpy())
            rewards.append(torch.from_numpy(reward).float())
        assert terminated.all()
        total = torch.stack(rewards).sum(dim=0)
        history.append(total.mean().item())

        # Update
        returns = total.repeat(args.num_steps)
        seen, action = torch.cat(observations), torch.cat(actions)
        log_prob, value = torch.cat(log_probs), torch.cat(values)
        advantage = returns - value
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        for _ in range(args.epochs):
            ratio = (agent.distribution(seen).log_prob(action).sum(dim=1) - log_prob).exp()
            clipped = ratio.clamp(1 - args.clip, 1 + args.clip)
            policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean()
            value_loss = (agent.critic(seen)[:, 0] - returns).square().mean()
            optimizer.zero_grad()
            (policy_loss + args.value_coefficient * value_loss).backward()
            nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
            optimizer.step()
        if update % 10 == 9:
            print(f"update {update + 1}: mean return {np.mean(history[-10:]):.4f}", flush=True)
    return history


def main() -> None:
    """Entry point."""
    args = tyro.cli(Args)
    torch.manual_seed(args.seed)
    envs = gym.make_vec(
        "NATDecode-v0",
        args.num_envs,
        bundle=args.bundle,
        num_steps=args.num_steps,
        observation="pooled",
        residual="heuristic",
        reward_fn=args.reward,
        aligned=True,  # episodes of one length
    )
    space = envs.single_observation_space
    assert isinstance(space, gym.spaces.Box)
    train(envs, Agent(*space.shape), args)


if __name__ == "__main__":
    main()
