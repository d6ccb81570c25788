"""The Inception Score's formula under any classifier, of samples that arrive in batches.

exp of the mean KL divergence from the marginal to each sample's class probabilities (Salimans et
al. 2016, arXiv:1606.03498, Sec. 4). It is an Inception Score only with InceptionV3's 1008 ImageNet
classes; with any other classifier, name the classifier beside it. It never looks at real images,
and sees no lack of variety within a class.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nat_env.metrics.checks import Array, checked


@dataclass(frozen=True)
class Score:
    """Mean and spread of the score over parts of the samples."""

    mean: float
    std: float
    """Sample standard deviation over parts."""


class ScoreAccumulator:
    """The score of samples that arrive in batches, in memory that does not grow with them.

    Of each part it keeps the sums of p and of p log p: the mean divergence from the marginal is
    the difference of their entropies. The result does not depend on how the samples were cut into
    batches, up to rounding.

    Args:
        num_samples: N in all, at least 2.
        num_splits: 2 to N parts that are scored apart. A part's score is biased: it cannot exceed
            its number of samples, so that parts should be large beside the number of classes C.
        seed: of the order in which samples are dealt to parts; samples often come class by class.
        first: number of the sample that comes first, where others take those before it.

    Raises:
        ValueError: num_splits out of its range.

    Example:
        >>> accumulator = ScoreAccumulator(num_samples=4, num_splits=2)
        >>> accumulator.update([[0.5, 0.5], [0.5, 0.5]])
        >>> accumulator.update([[0.5, 0.5], [0.5, 0.5]])
        >>> accumulator.score()
        Score(mean=1.0, std=0.0)
    """

    def __init__(
        self, num_samples: int, num_splits: int = 10, seed: int = 0, first: int = 0
    ) -> None:
        if not 2 <= num_splits <= num_samples:
            raise ValueError(f"num_splits: got {num_splits}, allowed are 2 .. N = {num_samples}")
        order = np.random.default_rng(seed).permutation(num_samples)
        self._part = np.empty(num_samples, dtype=np.int64)
        for part, members in enumerate(np.array_split(order, num_splits)):
            self._part[members] = part
        self._sizes = np.bincount(self._part)
        self._first, self._count = first, 0
        self._sums = np.zeros((num_splits, 0))  # of p, by part and class
        self._negative_entropies = np.zeros(num_splits)  # sums of p log p

    def update(self, probabilities: ArrayLike) -> None:
        """Add the next samples.

        Args:
            probabilities: of the classes, one row a sample [B, C]; for logits, their softmax.

        Raises:
            ValueError: a wrong shape, rows that are no probabilities, or more than N in all.
        """
        rows = checked("probabilities", probabilities)
        if rows.min() < 0 or np.abs(rows.sum(axis=1) - 1).max() > 1e-3:
            raise ValueError(
                "probabilities: allowed are rows of values >= 0 that sum to 1, got values from "
                f"{rows.min():.4g} to {rows.max():.4g}; give the softmax of logits"
            )
        begin = self._first + self._count
        end = begin + len(rows)
        if end > len(self._part):
            raise ValueError(f"probabilities: got {end} rows, allowed are N = {len(self._part)}")
        parts = self._part[begin:end]
        if not self._count:
            self._sums = np.zeros((len(self._sums), rows.shape[1]))
        np.add.at(self._sums, parts, rows)
        np.add.at(self._negative_entropies, parts, _negative_entropy(rows))
        self._count += len(rows)

    def merge(self, other: "ScoreAccumulator") -> None:
        """Add all samples of another accumulator, of the same N and parts, and of other samples."""
        if not self._count:
            self._sums = np.zeros_like(other._sums)
        if other._count:
            self._sums = self._sums + other._sums
            self._negative_entropies = self._negative_entropies + other._negative_entropies
            self._count += other._count

    def score(self) -> Score:
        """Of all N samples.

        Raises:
            ValueError: some of them are missing.
        """
        if self._count < len(self._part):
            raise ValueError(f"got {self._count} samples, needed are N = {len(self._part)}")
        marginals = _negative_entropy(self._sums / self._sizes[:, None])
        scores = np.exp(self._negative_entropies / self._sizes - marginals)
        return Score(float(scores.mean()), float(scores.std(ddof=1)))


def inception_style_score(
    probabilities: ArrayLike, num_splits: int = 10, seed: int = 0
) -> tuple[float, float]:
    """Compute the score of samples that are all in memory.

    Args:
        probabilities: of the classes, one row a sample [N, C]; for logits, their softmax.
        num_splits: see `ScoreAccumulator`.
        seed: see `ScoreAccumulator`.

    Returns:
        Mean and sample standard deviation over splits, each score between 1 and C.

    Raises:
        ValueError: a wrong shape, rows that are no probabilities, or num_splits out of its range.

    Example:
        >>> inception_style_score([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]], num_splits=2)
        (1.0, 0.0)
    """
    rows = checked("probabilities", probabilities)
    accumulator = ScoreAccumulator(len(rows), num_splits, seed)
    accumulator.update(rows)
    score = accumulator.score()
    return score.mean, score.std


def _negative_entropy(probabilities: Array) -> Array:
    """Sum of p log p over the last axis; 0 log 0 is 0."""
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    return (probabilities * logs).sum(axis=-1)
