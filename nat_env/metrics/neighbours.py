"""Metrics that count nearest neighbours: precision and recall, density and coverage.

Distances are computed in blocks of rows, so that 10,000 by 10,000 samples take below 100 MB beyond
two float64 copies of the embeddings.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from nat_env.metrics.checks import Array, checked_pair

_BLOCK_SIZE = 2**22
"""Largest number of distances held at once, 32 MiB of float64."""


def precision_recall(real: ArrayLike, fake: ArrayLike, k: int = 3) -> tuple[float, float]:
    """Compute improved precision and recall (Kynkaanniemi et al. 2019, arXiv:1904.06991, Eq. 2).

    A set's manifold is the union of the closed balls around its members that reach to their k-th
    nearest neighbour in the set. Distances that differ by rounding alone count as equal.

    Args:
        real: embeddings of real images [N, D], N > k.
        fake: embeddings of samples [M, D], M > k, of the same judge.
        k: at least 1.

    Returns:
        Precision, the share of samples on the manifold of the real images, and recall, the share
        of real images on that of the samples.

    Raises:
        ValueError: shapes that disagree, values that are not finite, or k out of its range.

    Example:
        The balls around 0, 1 and 3 have radii 1, 1 and 2, those around the samples 3.5.

        >>> precision_recall([[0.0], [1.0], [3.0]], [[2.5], [6.0]], k=1)
        (0.5, 1.0)
    """
    real, fake = checked_pair(real, fake)
    check_k("k", k, real, fake)
    space = Space(real, fake)
    (real_radii,) = squared_radii(space.real, k)
    (fake_radii,) = squared_radii(space.fake, k)
    overlap = Overlap(space, real_radii, fake_radii)
    for rows, squared in blocks(space.real, space.fake):
        overlap.add(rows, squared)
    return overlap.result()


def density_coverage(real: ArrayLike, fake: ArrayLike, k: int = 5) -> tuple[float, float]:
    """Compute density and coverage (Naeem et al. 2020, arXiv:2002.09797, Eq. 3 and 4).

    Balls are open, as in the authors' code, so that the density of a set within itself is 1. (One
    consequence: a real image with k exact copies among the others has an empty ball.) Distances
    that differ by rounding alone count as equal.

    Args:
        real: embeddings of real images [N, D], N > k.
        fake: embeddings of samples [M, D], of the same judge.
        k: at least 1.

    Returns:
        Density, the number of real images' balls (as in `precision_recall`) that a sample lies in,
        averaged over samples and divided by k: it may exceed 1. Coverage, the share of real images
        whose ball holds a sample. Of two draws of one distribution, density is 1 and coverage
        ``1 - 2^-k``, in expectation and for large N = M.

    Raises:
        ValueError: shapes that disagree, values that are not finite, or k out of its range.

    Example:
        The sample 1.5 lies in the balls around 0, 1 and 3, of radii 3, 2 and 3; 9 in none.

        >>> density_coverage([[0.0], [1.0], [3.0]], [[1.5], [9.0]], k=2)
        (0.75, 1.0)
    """
    real, fake = checked_pair(real, fake)
    check_k("k", k, real)
    space = Space(real, fake)
    (radii,) = squared_radii(space.real, k)
    occupancy = Occupancy(space, radii, k)
    for rows, squared in blocks(space.real, space.fake):
        occupancy.add(rows, squared)
    return occupancy.result()


def check_k(name: str, k: int, *sets: Array) -> None:
    """Check that each row has a k-th nearest other row.

    Raises:
        ValueError: it has not; `name` is the argument's.
    """
    smallest = min(map(len, sets))
    if not 1 <= k < smallest:
        raise ValueError(
            f"{name}: got {k}, allowed are 1 .. {smallest - 1} with {smallest} samples; "
            "lower it or give more samples"
        )


class Space:
    """Both sets about the real mean, and the rounding error of their squared distances."""

    def __init__(self, real: Array, fake: Array) -> None:
        # |x|^2 + |y|^2 - 2 x.y cancels less the nearer the origin is; distances do not move.
        centre = real.mean(axis=0)
        self.real, self.fake = real - centre, fake - centre
        largest = max(float(_squared_norms(each).max()) for each in (self.real, self.fake))
        # A bound on the sum's error, D additions of terms up to the largest norm. Ties are common:
        # a tokenizer decodes equal tokens to equal images.
        self.tolerance = 4 * (real.shape[1] + 4) * np.finfo(np.float64).eps * largest


def squared_radii(embeddings: Array, *ks: int) -> list[Array]:
    """Squared distance of each row to its k-th nearest other row, [N] for each k."""
    radii = [np.empty(len(embeddings)) for _ in ks]
    for rows, squared in blocks(embeddings, embeddings):
        own = np.arange(rows.start, rows.stop)
        squared[own - rows.start, own] = np.inf
        squared.partition([k - 1 for k in ks], axis=1)
        for radius, k in zip(radii, ks, strict=True):
            radius[rows] = squared[:, k - 1]
    return radii


class Overlap:
    """Precision and recall, from blocks of squared distances."""

    def __init__(self, space: Space, real_radii: Array, fake_radii: Array) -> None:
        # Closed balls: a distance that equals the radius is inside.
        self._real_radii = real_radii + space.tolerance
        self._fake_radii = fake_radii + space.tolerance
        self._precise = np.zeros(len(fake_radii), dtype=bool)
        self._recalled = np.zeros(len(real_radii), dtype=bool)

    def add(self, rows: slice, squared: Array) -> None:
        """Take the distances [b, M] of some real rows to all samples."""
        self._precise |= (squared <= self._real_radii[rows, None]).any(axis=0)
        self._recalled[rows] = (squared <= self._fake_radii).any(axis=1)

    def result(self) -> tuple[float, float]:
        """Precision and recall."""
        return float(self._precise.mean()), float(self._recalled.mean())


class Occupancy:
    """Density and coverage, from blocks of squared distances."""

    def __init__(self, space: Space, real_radii: Array, k: int) -> None:
        # Open balls: a distance that equals the radius is outside.
        self._radii = real_radii - space.tolerance
        self._counts = np.zeros(len(real_radii))
        self._num_fake, self._k = len(space.fake), k

    def add(self, rows: slice, squared: Array) -> None:
        """Take the distances [b, M] of some real rows to all samples."""
        self._counts[rows] = (squared < self._radii[rows, None]).sum(axis=1)

    def result(self) -> tuple[float, float]:
        """Density and coverage."""
        density = self._counts.sum() / (self._k * self._num_fake)
        return float(density), float((self._counts > 0).mean())


def blocks(a: Array, b: Array) -> Iterator[tuple[slice, Array]]:
    """Squared Euclidean distances of some rows of `a` to all of `b`, [rows, len(b)] at a time."""
    a_norms, b_norms = _squared_norms(a), _squared_norms(b)
    size = max(1, _BLOCK_SIZE // len(b))
    for start in range(0, len(a), size):
        rows = slice(start, min(start + size, len(a)))
        squared = a[rows] @ b.T
        squared *= -2
        squared += a_norms[rows, None]
        squared += b_norms
        yield rows, squared


def _squared_norms(embeddings: Array) -> Array:
    return np.einsum("nd,nd->n", embeddings, embeddings)
