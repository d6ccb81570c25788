"""Rewards at every step, beside that of the final image."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from torch import Tensor

from nat_env.decoding.certainty import surest
from nat_env.rewards.protocol import real_numbers
from nat_env.vector_env import NATDecodeVectorEnv

Potential = Callable[[NATDecodeVectorEnv], Tensor]
"""A number for the state of each row, [B]: a function of ids, conditions, timesteps and logits."""


def revealed_share(env: NATDecodeVectorEnv) -> Tensor:
    """A potential: the share of tokens that are revealed, [B] in 0 .. 1."""
    return (env.ids != env.bundle.nat.mask_id).float().mean(dim=1)


def confidence(env: NATDecodeVectorEnv) -> Tensor:
    """A potential: how sure the NAT is of an image's tokens on average, [B] in 0 .. 1.

    Of a masked token it is the largest probability, of a revealed one 1. It rises with every token
    revealed, and more where that tells the NAT what the others are.
    """
    return surest(env.logits, env.ids == env.bundle.nat.mask_id).mean(dim=1)


class AddedReward(VectorWrapper, ABC):
    """Adds to the reward of each step what a subclass makes of the rows' states around it.

    What was added stands in `info["shaping"]`; of wrappers around each other, the outermost's.
    Put it around `AdversarialReward`, which replaces the rewards of what it wraps.
    """

    def __init__(self, env: VectorEnv) -> None:
        """Wrap `env`.

        Raises:
            ValueError: not a decoding environment.
        """
        super().__init__(env)
        if not isinstance(env.unwrapped, NATDecodeVectorEnv):
            raise ValueError(f"env: got {env.unwrapped!r}, allowed is a NATDecodeVectorEnv")
        self.decoder = env.unwrapped

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """As the environment's, with the addition to its reward."""
        if self.decoder.generators is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        finished = self._finished()
        before = self._value()
        observation, rewards, terminated, truncated, info = self.env.step(actions)
        # Rows that ended have no value: with SAME_STEP they hold the next episode's start, and a
        # finished row's step (NEXT_STEP) is a reset, not a transition.
        added = self._added(before, terminated | finished)
        extra = {"shaping": added, "_shaping": ~finished}
        info = info | extra
        if "final_info" in info:
            info["final_info"] = info["final_info"] | {"shaping": added, "_shaping": terminated}
        return observation, rewards + added, terminated, truncated, info

    def _finished(self) -> np.ndarray:
        return (self.decoder.timesteps == self.decoder.num_steps).cpu().numpy()

    @abstractmethod
    def _value(self) -> np.ndarray:
        """Of the rows' present states, [B] float64, 0 where finished."""

    @abstractmethod
    def _added(self, before: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """What the step earns, [B] float64, by the values before it and the rows at an end."""


class PotentialShaping(AddedReward):
    """Adds discount * phi(s') - phi(s) at each step, with phi = 0 at the end of an episode.

    With the learner's discount this changes no policy's rank, only how soon a learner is told (Ng,
    Harada and Russell 1999): over an episode the additions sum to -phi(s_0), which no action
    changes. The potential is evaluated before and after each step, so that the wrapper keeps no
    state and stays right when rows are reset or restored.

    Example:
        >>> env = PotentialShaping(NATDecodeVectorEnv(2, "digits", num_steps=2), revealed_share)
        >>> _ = env.reset(seed=0)
        >>> [env.step(np.zeros((2, 4)))[-1]["shaping"].tolist() for _ in range(2)]
        [[0.5, 0.5], [-0.5, -0.5]]
    """

    def __init__(self, env: VectorEnv, potential: Potential, discount: float = 1.0) -> None:
        """Wrap `env`.

        Args:
            env: a `NATDecodeVectorEnv`, wrapped or not.
            potential: gives [B] for the environment's present states; it draws nothing at random
                and changes nothing.
            discount: the learner's, 0 .. 1; here episodes are short and it is 1.

        Raises:
            ValueError: not a decoding environment, or a discount out of range.
        """
        if not 0 <= discount <= 1:
            raise ValueError(f"discount: got {discount}, allowed is 0 .. 1")
        super().__init__(env)
        self.potential = potential
        self.discount = discount

    def _value(self) -> np.ndarray:
        before = self._shown()
        given = real_numbers(self.potential(self.decoder), f"{self.num_envs} rows", "potential")
        for name, (tensor, version) in self._shown().items():
            if tensor is not before[name][0] or version != before[name][1]:
                raise ValueError(
                    f"potential: changed the environment's {name}, allowed is to look at it; "
                    f"work on a copy, env.{name}.clone()"
                )
        values = given.cpu().double().numpy()
        if values.shape != (self.num_envs,):
            raise ValueError(
                f"potential: gave shape {values.shape}, allowed is one number for each of the "
                f"{self.num_envs} rows"
            )
        values = np.where(self._finished(), 0.0, values)
        if not np.isfinite(values).all():
            raise ValueError(f"potential: gave {values.tolist()}, allowed are finite numbers")
        return values

    def _shown(self) -> dict[str, tuple[Tensor, int]]:
        """What a potential looks at, with torch's count of the changes made to it in place."""
        tensors = {
            n: getattr(self.decoder, n) for n in ("ids", "conditions", "timesteps", "logits")
        }
        return {n: (t, 0 if t.is_inference() else t._version) for n, t in tensors.items()}

    def _added(self, before: np.ndarray, ended: np.ndarray) -> np.ndarray:
        return self.discount * np.where(ended, 0.0, self._value()) - before
