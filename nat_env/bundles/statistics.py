"""Gaussian statistics of embeddings and the Frechet distance between two of them.

The distance is that of the Frechet Inception Distance (Heusel et al. 2017, "GANs Trained by a Two
Time-Scale Update Rule Converge to a Local Nash Equilibrium", arXiv:1706.08500, Eq. 6). Embeddings
may come from any network: a value is an FID only for InceptionV3 embeddings under the standard
protocol; with another judge, name the judge and the number of samples beside the value.

Everything is float64, for the distance is a small difference between large traces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class GaussianStatistics:
    """Mean and covariance of a set of embeddings.

    Attributes:
        mean: Sample mean, float64 [D].
        covariance: Unbiased sample covariance (divided by ``count - 1``), float64 [D, D].
        count: Number of vectors behind the two, at least 2; None where a file does not say. It may
            be smaller than D; the covariance is then singular.

    Raises:
        ValueError: If the shapes disagree, a value is complex or not finite, ``count`` is no
            integer from 2 on, or the covariance is none: not symmetric, a correlation beyond 1, or
            an eigenvalue below -1e-6 of the largest.

    Example:
        >>> statistics = GaussianStatistics.from_embeddings([[0.0, 1.0], [2.0, 1.0]])
        >>> statistics.mean.tolist(), statistics.covariance.tolist(), statistics.count
        ([1.0, 1.0], [[2.0, 0.0], [0.0, 0.0]], 2)
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    count: int | None

    def __post_init__(self) -> None:
        """Check shapes and values, for statistics are also read from files."""
        mean = real_array("mean", self.mean)
        covariance = real_array("covariance", self.covariance)
        if mean.ndim != 1 or not mean.size or covariance.shape != (mean.size, mean.size):
            raise ValueError(
                f"expected mean [D] and covariance [D, D], got {mean.shape} and {covariance.shape}"
            )
        count = self.count
        if count is not None and (
            isinstance(count, bool) or not isinstance(count, Integral) or count < 2
        ):
            raise ValueError(f"count: a covariance needs at least 2 samples, got {count!r}")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError("mean or covariance holds values that are not finite")
        # What each entry may be at most, so that small variances beside large ones are checked too.
        deviations = np.sqrt(covariance.diagonal().clip(min=0.0))
        bound = np.outer(deviations, deviations)
        rounding = 1e-6 * bound + 1e-12 * np.abs(covariance).max()
        # An eigendecomposition reads one triangle only: asymmetry would go unseen.
        if (np.abs(covariance - covariance.T) > rounding).any():
            raise ValueError("the covariance is not symmetric")
        if (np.abs(covariance) > bound + rounding).any():
            raise ValueError("the covariance has a variance below 0 or a correlation beyond 1")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "covariance", covariance)
        eigenvalues, _ = self._eigen
        if eigenvalues[0] < -1e-6 * eigenvalues[-1]:
            raise ValueError(
                f"the covariance has the eigenvalue {eigenvalues[0]:.3g} beside "
                f"{eigenvalues[-1]:.3g}, allowed are none below 0"
            )

    @cached_property
    def _eigen(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Eigenvalues [D], ascending, and eigenvectors [D, D] of the covariance."""
        eigenvalues, eigenvectors = np.linalg.eigh(self.covariance)
        return eigenvalues, eigenvectors

    @cached_property
    def factor(self) -> NDArray[np.float64]:
        """F [D, R] with F F^T = covariance, R its numerical rank (symmetric eigenvectors)."""
        eigenvalues, eigenvectors = self._eigen
        # Eigenvalues that are rounding errors of 0 would count with their square root, 1e-8 and
        # not 1e-16 of the largest, once per missing dimension.
        largest = np.abs(eigenvalues).max(initial=0.0)
        kept = eigenvalues > eigenvalues.size * np.finfo(np.float64).eps * largest
        return eigenvectors[:, kept] * np.sqrt(eigenvalues[kept])

    @classmethod
    def from_embeddings(cls, embeddings: ArrayLike) -> GaussianStatistics:
        """Compute the statistics of embeddings that are all in memory.

        Args:
            embeddings: [N, D] with N >= 2; any real dtype, computed in float64.

        Raises:
            ValueError: If the shape is wrong, N < 2, or a value is not finite.
        """
        accumulator = EmbeddingAccumulator()
        accumulator.update(embeddings)
        return accumulator.statistics()


def real_array(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Real numbers as float64.

    Args:
        name: of the argument, for the message.
        values: an array, lists, or a CPU tensor without gradients.

    Raises:
        ValueError: values that are no real numbers, such as complex ones, dates or texts.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name}: got {array.dtype}, allowed are real numbers")
    with np.errstate(over="ignore"):  # beyond float64 is infinite, and refused as such
        return array.astype(np.float64, copy=False)


class EmbeddingAccumulator:
    """Running mean and covariance of embeddings that arrive in batches.

    Batches are combined with the pairwise update of Chan, Golub and LeVeque (1983), not with raw
    sums of squares, which cancel when the mean is large beside the spread. The result does not
    depend on how the embeddings were cut into batches, up to rounding in float64.

    Example:
        >>> accumulator = EmbeddingAccumulator()
        >>> accumulator.update([[1.0], [2.0]])
        >>> accumulator.update([[6.0]])
        >>> accumulator.statistics()
        GaussianStatistics(mean=array([3.]), covariance=array([[7.]]), count=3)
    """

    def __init__(self) -> None:
        """Start with no samples; the first batch sets D."""
        self.count = 0
        self._mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))

    def update(self, embeddings: ArrayLike) -> None:
        """Add a batch of embeddings.

        Args:
            embeddings: [B, D] with B >= 1; arrays, lists or CPU tensors without gradients.

        Raises:
            ValueError: If the shape is wrong, D differs from earlier batches, or a value is not
                finite. The accumulator is then unchanged.
        """
        batch = real_array("embeddings", embeddings)
        if batch.ndim != 2 or 0 in batch.shape:
            raise ValueError(f"expected embeddings [B, D], B and D at least 1, got {batch.shape}")
        if not np.isfinite(batch).all():
            raise ValueError("features hold values that are not finite")
        mean = batch.mean(axis=0)
        centred = batch - mean
        self._add(len(batch), mean, centred.T @ centred)

    def merge(self, other: EmbeddingAccumulator) -> None:
        """Add all samples of another accumulator, such as another process's share.

        Raises:
            ValueError: If both hold samples and their D differ.
        """
        if other.count:
            self._add(other.count, other._mean, other._scatter)

    def statistics(self) -> GaussianStatistics:
        """Return the statistics of all samples so far.

        Raises:
            ValueError: If fewer than 2 samples were added.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, got {self.count}")
        return GaussianStatistics(
            self._mean.copy(), self._scatter / (self.count - 1), count=self.count
        )

    def _add(self, count: int, mean: NDArray[np.float64], scatter: NDArray[np.float64]) -> None:
        """Combine with a group's size, mean [D] and centred scatter matrix [D, D]."""
        if self.count == 0:
            self.count, self._mean, self._scatter = count, mean, scatter
            return
        if mean.shape != self._mean.shape:
            raise ValueError(f"expected embeddings of D = {self._mean.size}, got D = {mean.size}")
        total = self.count + count
        shift = mean - self._mean
        between = np.outer(shift, shift) * (self.count * count / total)
        # New arrays, never in place: merged accumulators share theirs.
        self._mean = self._mean + shift * (count / total)
        self._scatter = self._scatter + scatter + between
        self.count = total


def balanced_statistics(embeddings: ArrayLike, labels: ArrayLike) -> GaussianStatistics:
    """Statistics in which each class weighs the same, as it does among generated images.

    Without it a distance would tell how uneven the classes are, which no policy can change. With
    even classes they are the usual mean and unbiased covariance.

    Args:
        embeddings: [n, D], n at least 2; any real dtype, computed in float64.
        labels: [n] integers. Classes that have no embedding have no weight.

    Raises:
        ValueError: the shapes disagree, n < 2, or a value is not finite.

    Example:
        >>> balanced_statistics([[0.0], [0.0], [0.0], [4.0]], [0, 0, 0, 1]).mean
        array([2.])
    """
    values, classes = real_array("embeddings", embeddings), np.asarray(labels)
    if values.ndim != 2 or classes.shape != values.shape[:1] or len(values) < 2:
        raise ValueError(
            f"embeddings: got {values.shape} with labels {classes.shape}, allowed are [n, D] and "
            "[n] with n at least 2"
        )
    _, which, counts = np.unique(classes, return_inverse=True, return_counts=True)
    weights = 1 / (len(counts) * counts[which])  # [n], sum 1
    mean = weights @ values
    centred = values - mean
    covariance = (weights[:, None] * centred).T @ centred / (1 - np.square(weights).sum())
    return GaussianStatistics(mean, (covariance + covariance.T) / 2, count=len(values))


def frechet_distance(a: GaussianStatistics, b: GaussianStatistics) -> float:
    """Compute the squared Frechet (2-Wasserstein) distance between two Gaussians.

    ``|m_a - m_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a^1/2 S_b S_a^1/2)^1/2)``, as reported for FID.
    It is symmetric, needs no regularisation for singular covariances, and costs O(D^3).

    Args:
        a: Statistics of one set.
        b: Statistics of the other, with the same D.

    Returns:
        The distance, at least 0, in squared units of the embeddings.

    Raises:
        ValueError: If the dimensions differ.

    Example:
        Means 0 and 3, standard deviations 1 and 2: 3^2 + (1 - 2)^2.

        >>> a = GaussianStatistics(np.array([0.0]), np.array([[1.0]]), count=100)
        >>> b = GaussianStatistics(np.array([3.0]), np.array([[4.0]]), count=100)
        >>> frechet_distance(a, b)
        10.0
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"dimensions differ: D = {a.mean.size} and D = {b.mean.size}")
    # With S_a = A A^T and S_b = B B^T, the trace of the root is the sum of the singular values of
    # A^T B. Taking them there, and not as roots of the eigenvalues of the squared matrix, keeps
    # full precision in directions of small variance and makes the distance symmetric.
    cross = a.factor.T @ b.factor
    overlap = np.linalg.svd(cross, compute_uv=False).sum()
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * overlap
    # The spread is never negative; what rounding leaves below 0 is noise.
    return float(np.square(a.mean - b.mean).sum() + max(spread, 0.0))
