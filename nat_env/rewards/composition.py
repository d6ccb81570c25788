"""Rewards made of rewards: weighted sums, bounds, running normalisation.

Their state is that of their parts: a reward that learns or remembers goes on inside of them too.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nat_env.rewards.protocol import Reward, restore_state, scores_of, state_of, tell_names


class WeightedSum:
    """The sum of rewards, each with its weight.

    Example:
        >>> light = lambda images, conditions: images.mean(dim=(1, 2, 3))
        >>> label = lambda images, conditions: conditions.float()
        >>> WeightedSum([(2.0, light), (-1.0, label)])(torch.ones(2, 1, 4, 4), torch.tensor([0, 3]))
        tensor([ 2., -1.])
    """

    def __init__(self, terms: Sequence[tuple[float, Reward]]) -> None:
        """Add up `terms`, pairs of a weight and a reward.

        Raises:
            ValueError: no terms, or a weight that is not finite.
        """
        self.terms = tuple(terms)
        weights = [weight for weight, _ in self.terms]
        if not weights or not all(map(math.isfinite, weights)):
            raise ValueError(f"terms: got weights {weights}, allowed are finite ones, at least 1")

    def __call__(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Rewards [B]."""
        scores = [weight * scores_of(reward, images, conditions) for weight, reward in self.terms]
        return torch.stack(scores).sum(dim=0)

    def tell_names(self, names: Sequence[str]) -> None:
        """Tell the terms."""
        for _, reward in self.terms:
            tell_names(reward, names)

    def state_dict(self) -> dict[str, Any]:
        """The terms' states."""
        return {"terms": [state_of(reward) for _, reward in self.terms]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`."""
        for (_, reward), part in zip(self.terms, state["terms"], strict=True):
            restore_state(reward, part)


class Clipped:
    """A reward kept within bounds: beyond them there is nothing to gain.

    Example:
        >>> light = lambda images, conditions: images.mean(dim=(1, 2, 3))
        >>> images = torch.tensor([0.1, 0.3, 0.9])[:, None, None, None]
        >>> Clipped(light, 0.2, 0.5)(images, torch.zeros(3).long())
        tensor([0.2000, 0.3000, 0.5000])
    """

    def __init__(self, reward: Reward, low: float = -math.inf, high: float = math.inf) -> None:
        """Keep `reward` in low .. high.

        Raises:
            ValueError: not low < high.
        """
        if not low < high:
            raise ValueError(f"low, high: got {low} and {high}, allowed is low < high")
        self.reward = reward
        self.low, self.high = low, high

    def __call__(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Rewards [B]."""
        return scores_of(self.reward, images, conditions).clamp(self.low, self.high)

    def tell_names(self, names: Sequence[str]) -> None:
        """Tell what is clipped."""
        tell_names(self.reward, names)

    def state_dict(self) -> dict[str, Any]:
        """The state of what is clipped."""
        return state_of(self.reward)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`."""
        restore_state(self.reward, state)


class RunningNormalized:
    """A reward less its mean, over its standard deviation, both of all images seen so far.

    In training a batch enters mean and deviation before it is normalised by them, so that the first
    one is normalised too: the reward then depends on the batch and on what came before. Set
    `training` to False and it is a per-sample function again, the same at every call.

    Example:
        >>> light = lambda images, conditions: images.mean(dim=(1, 2, 3))
        >>> reward = RunningNormalized(light)
        >>> labels = torch.zeros(2).long()
        >>> reward(torch.tensor([1.0, 3.0])[:, None, None, None], labels)
        tensor([-1.,  1.])
        >>> reward.training = False
        >>> reward(torch.tensor([2.0, 2.5])[:, None, None, None], labels)
        tensor([0.0000, 0.5000])
    """

    def __init__(self, reward: Reward, training: bool = True, epsilon: float = 1e-8) -> None:
        """Normalise `reward`.

        Args:
            reward: what is normalised.
            training: whether images that are scored enter mean and deviation.
            epsilon: > 0, added to the variance, for rewards that are all alike.

        Raises:
            ValueError: another epsilon.
        """
        if not 0 < epsilon < math.inf:
            raise ValueError(f"epsilon: got {epsilon}, allowed is > 0")
        self.reward = reward
        self.training = training
        self.epsilon = epsilon
        self.count = 0
        self.mean = 0.0
        self._scatter = 0.0

    @property
    def variance(self) -> float:
        """Of the rewards of all images that entered (divided by their number)."""
        return self._scatter / max(self.count, 1)

    def __call__(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Rewards [B].

        Raises:
            ValueError: not training, and nothing seen to normalise by.
        """
        if not self.training and not self.count:
            raise ValueError("training: got False before any image was seen, allowed is True")
        scores = scores_of(self.reward, images, conditions).double()
        if self.training:
            self._add(scores)
        return ((scores - self.mean) / math.sqrt(self.variance + self.epsilon)).float()

    def _add(self, scores: Tensor) -> None:
        """Welford's update for a batch [B] at once (Chan, Golub and LeVeque 1983)."""
        total = self.count + len(scores)
        shift = float(scores.mean()) - self.mean
        within = float((scores - scores.mean()).square().sum())
        self._scatter += within + shift**2 * self.count * len(scores) / total
        self.mean += shift * len(scores) / total
        self.count = total

    def tell_names(self, names: Sequence[str]) -> None:
        """Tell what is normalised."""
        tell_names(self.reward, names)

    def state_dict(self) -> dict[str, Any]:
        """Count, mean, sum of squared deviations, and the state of what is normalised."""
        own = {"count": self.count, "mean": self.mean, "scatter": self._scatter}
        return own | {"reward": state_of(self.reward)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`."""
        self.count, self.mean = int(state["count"]), float(state["mean"])
        self._scatter = float(state["scatter"])
        restore_state(self.reward, state["reward"])
