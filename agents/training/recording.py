"""What TensorBoard is told of a rollout: rewards, and quantities step by step."""

import numpy as np
import torch

from nat_env.actions import ActionMap
from nat_env.parallel.processes import Processes

Steps = list[tuple[np.ndarray, np.ndarray]]
"""Actions [num_envs, n] and rewards [num_envs] of a rollout, step by step; no number where an
action had no effect, as the image was complete."""


def whole_steps(steps: Steps, processes: Processes) -> Steps:
    """The rows of all processes, on the main one; on the others nothing."""
    parts = processes.gathered(steps)
    return [
        (np.concatenate([a for a, _ in rows]), np.concatenate([r for _, r in rows]))
        for rows in zip(*parts, strict=True)
    ]


def reward_scalars(steps: Steps, num_steps: int) -> dict[str, float]:
    """Mean and spread of what episodes of `num_steps` steps pay."""
    each = np.stack([rewards for _, rewards in steps])  # [rounds * T, num_envs]
    rewards = each.reshape(-1, num_steps, each.shape[1]).sum(axis=1)
    return {"reward/mean": float(rewards.mean()), "reward/std": float(rewards.std())}


def quantity_scalars(steps: Steps, num_steps: int, action_map: ActionMap) -> dict[str, float]:
    """Mean and spread of m, tau_1, tau_2, w at every step of an episode, counted from 1.

    Not of what is decided by token: of a rollout that is its exploration.
    """
    found: dict[str, float] = {}
    average = None
    for step in range(num_steps):
        given = np.concatenate([actions for actions, _ in steps[step::num_steps]])
        actions, timesteps = torch.from_numpy(given), torch.full((len(given),), step)
        average = action_map.smoothed(actions, timesteps, actions if average is None else average)
        physical = action_map.physical(average, timesteps)
        for quantity, values in zip(
            action_map.physical_quantities, physical.unbind(dim=1), strict=True
        ):
            if quantity.of_tokens or (step == num_steps - 1 and quantity.is_idle_at_last):
                continue
            if len(values := values[~values.isnan()]):
                tag, std = f"{quantity.name}/step{step + 1}", values.std(correction=0)
                found |= {f"{tag}_mean": float(values.mean()), f"{tag}_std": float(std)}
    return found
