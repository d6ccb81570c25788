"""What passes of the transformer cost: rewards of an image's quality and of how soon it came."""

import math
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from nat_env.vector_env import NATDecodeVectorEnv
from nat_env.wrappers.shaping import AddedReward


class StepCost(AddedReward):
    """Subtracts a cost at each step that begins with masked tokens.

    A policy that reveals everything early pays less: with `cost` it weighs the quality of an image
    against the passes that it took. The first step always costs.

    Example:
        >>> env = StepCost(NATDecodeVectorEnv(1, "digits", num_steps=3), cost=0.1)
        >>> _ = env.reset(seed=0)
        >>> reveal_all = np.array([[-1.0, 0, 0, 0]])
        >>> _, _, terminated, _, info = env.step(reveal_all)
        >>> terminated.item(), info["shaping"].item(), info["passes"].item()
        (True, -0.1, 1)
    """

    def __init__(self, env: VectorEnv, cost: float) -> None:
        """Wrap `env`.

        Args:
            env: a `NATDecodeVectorEnv`, wrapped or not.
            cost: >= 0, of one step of one row.

        Raises:
            ValueError: not a decoding environment, or another cost.
        """
        if not 0 <= cost < math.inf:
            raise ValueError(f"cost: got {cost}, allowed is a finite number >= 0")
        super().__init__(env)
        self.cost = cost

    def _value(self) -> np.ndarray:
        return (self.decoder.masked > 0).numpy().astype(np.float64)

    def _added(self, before: np.ndarray, ended: np.ndarray) -> np.ndarray:
        return 0.0 - self.cost * before


class PassDiscount(VectorWrapper):
    """Multiplies the reward of an image by a factor for each pass but the first.

    The multiplicative form of `StepCost`: what a pass is worth grows with what the image is worth,
    so that no policy is paid for bad images that came soon. It is meant for rewards that are never
    below 0, such as a discriminator's.

    Example:
        >>> bright = lambda images, conditions: images.new_ones(len(images))
        >>> env = NATDecodeVectorEnv(1, "digits", num_steps=3, reward_fn=bright)
        >>> env = PassDiscount(env, factor=0.9)
        >>> _ = env.reset(seed=0)
        >>> [env.step(np.zeros((1, 4)))[1].item() for _ in range(3)]
        [0.0, 0.0, 0.81]
    """

    def __init__(self, env: VectorEnv, factor: float) -> None:
        """Wrap `env`.

        Args:
            env: a `NATDecodeVectorEnv`, wrapped or not.
            factor: in (0, 1], of one pass.

        Raises:
            ValueError: not a decoding environment, or another factor.
        """
        if not 0 < factor <= 1:
            raise ValueError(f"factor: got {factor}, allowed is > 0 and <= 1")
        super().__init__(env)
        if not isinstance(env.unwrapped, NATDecodeVectorEnv):
            raise ValueError(f"env: got {env.unwrapped!r}, allowed is a NATDecodeVectorEnv")
        self.factor = factor

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """As the environment's, with less reward where an episode ends."""
        observation, rewards, terminated, truncated, info = self.env.step(actions)
        share = np.where(terminated, self.factor ** (info["passes"] - 1.0), 1.0)
        return observation, rewards * share, terminated, truncated, info
