"""The quantities that a policy chose, as means and spreads, in memory that does not grow."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nat_env.decoding.quantities import COLUMNS, of_quantities

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Quantities:
    """Of m, tau_1, tau_2, w, or as `names` has it, over the samples that a step decodes.

    All are [T, quantities], see `of_quantities`. Without the steps that fewer than two samples come
    to, as all others are complete before.
    """

    names: tuple[str, ...]
    mean: Array
    std: Array
    """Sample standard deviation; zero where the policy is the same for all samples."""
    std_within: Array
    """Of what is left once each class's mean is taken away: what a policy does by sample and not by
    class. NaN where no class has two samples, as of many prompts: then nobody can tell."""


class QuantitiesAccumulator:
    """Adds up the actions of samples that arrive in batches, by step and class.

    Kept are sums of what differs from the first sample's action, in float64: of equal actions they
    are exactly zero, and little cancels where actions differ little.
    """

    def __init__(
        self, num_steps: int, num_classes: int, columns: tuple[str, ...] = COLUMNS
    ) -> None:
        """Start with no samples of T steps and so many classes."""
        self.columns, size = columns, len(columns)
        self._first = np.zeros((num_steps, size))
        self._counts = np.zeros((num_steps, num_classes))
        self._sums = np.zeros((num_steps, num_classes, size))
        self._squares = np.zeros((num_steps, size))

    def update(self, timestep: int, actions: Array, classes: NDArray[np.int64]) -> None:
        """Add actions [B, columns] of samples of some classes [B] at a step."""
        if not self._counts[timestep].any():
            self._first[timestep] = actions[0]
        differences = actions - self._first[timestep]
        np.add.at(self._counts[timestep], classes, 1)
        np.add.at(self._sums[timestep], classes, differences)
        self._squares[timestep] += np.square(differences).sum(axis=0)

    def merge(self, other: "QuantitiesAccumulator") -> None:
        """Add all samples of another accumulator, of the same steps and classes."""
        if not self._counts.any():
            self._first = other._first
        # Its differences, from our first sample's action.
        shift = other._first - self._first  # [T, columns]
        counts, sums = other._counts, other._sums
        self._squares += (
            other._squares
            + 2 * shift * sums.sum(axis=1)
            + np.square(shift) * counts.sum(axis=1)[:, None]
        )
        self._sums += sums + counts[..., None] * shift[:, None]
        self._counts += counts

    def result(self) -> Quantities:
        """Of all samples so far."""
        count = self._counts.sum(axis=1)[:, None]  # [T, 1]
        total = self._sums.sum(axis=1)  # [T, columns]
        squares_of_means = np.square(self._sums) / np.maximum(self._counts, 1)[..., None]
        spread = self._squares - np.square(total) / np.maximum(count, 1)
        within = self._squares - squares_of_means.sum(axis=1)
        # Each class's mean takes a degree of freedom: of few samples a class, very many.
        left = count - np.count_nonzero(self._counts, axis=1)[:, None]
        std = np.sqrt(np.maximum(spread, 0) / np.maximum(count - 1, 1))
        std_within = np.sqrt(np.maximum(within, 0) / np.where(left > 0, left, np.nan))
        steps = int((count >= 2).sum())
        mean = self._first + total / np.maximum(count, 1)
        names, mean, (std, std_within) = of_quantities(
            self.columns, mean[:steps], std[:steps], std_within[:steps]
        )
        return Quantities(names, mean, std, std_within)
