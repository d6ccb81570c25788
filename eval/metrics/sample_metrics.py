"""Sample-quality metrics on a judge's embeddings, beside the Frechet distance.

A Frechet distance mixes two faults, samples that look wrong and real images that no sample looks
like, and it is biased: it falls as the number of samples grows. Precision and density see the first
fault, recall and coverage the second, and the kernel distance is unbiased. Like the Frechet
distance they mean something only beside the judge's name and the numbers of samples.

Everything is float64.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eval.metrics.score import inception_style_score
from nat_env.metrics.checks import Array, checked_pair
from nat_env.metrics.neighbours import (
    Occupancy,
    Overlap,
    Space,
    blocks,
    check_k,
    density_coverage,
    precision_recall,
    squared_radii,
)

__all__ = [
    "KernelDistance",
    "SampleMetrics",
    "density_coverage",
    "inception_style_score",
    "kernel_distance",
    "precision_recall",
    "sample_metrics",
]


@dataclass(frozen=True)
class KernelDistance:
    """Mean and spread of a kernel distance over random subsets."""

    mean: float
    std: float
    """Sample standard deviation over subsets."""
    num_subsets: int
    num_disjoint: int
    """Subsets that fit side by side into the smaller set."""

    @property
    def standard_error(self) -> float:
        """Of the mean, over fresh draws of real images and samples.

        Only disjoint subsets are independent draws. More subsets than fit side by side overlap:
        they average out which subsets were chosen, not which samples were drawn, so that the error
        falls with the root of `num_disjoint` at most. Of two sets of one distribution it is an
        upper bound, for there the mean falls faster; and it is too small where subsets are a large
        part of a set, for these hardly differ: 0 where a subset is the whole set.
        """
        return self.std / float(np.sqrt(min(self.num_subsets, self.num_disjoint)))


@dataclass(frozen=True)
class SampleMetrics:
    """What `sample_metrics` measured; higher is better but for the kernel distance."""

    precision: float
    recall: float
    density: float
    coverage: float
    kernel_distance: float
    kernel_distance_error: float
    """`KernelDistance.standard_error`."""
    num_real: int
    num_fake: int


def sample_metrics(
    real: ArrayLike,
    fake: ArrayLike,
    manifold_k: int = 3,
    density_k: int = 5,
    subset_size: int | None = None,
    num_subsets: int = 100,
    seed: int = 0,
) -> SampleMetrics:
    """Compute all metrics of this page that compare embeddings; distances are computed once.

    Args:
        real: embeddings of real images [N, D].
        fake: embeddings of samples [M, D], of the same judge. For the neighbour metrics N and M had
            better be equal: precision grows with N, recall and coverage with M.
        manifold_k: k of `precision_recall`.
        density_k: k of `density_coverage`.
        subset_size: of `kernel_distance`. None for a tenth of the smaller set, at most 1,000, so
            that ten independent subsets tell its error.
        num_subsets: of `kernel_distance`.
        seed: of `kernel_distance`.

    Raises:
        ValueError: as in the three functions, before anything is computed.

    Example:
        >>> embeddings = [[0.0], [1.0], [2.0], [3.0]]
        >>> metrics = sample_metrics(
        ...     embeddings, embeddings, manifold_k=1, density_k=1, subset_size=2
        ... )
        >>> metrics.precision, metrics.recall, metrics.density, metrics.coverage
        (1.0, 1.0, 1.0, 1.0)
    """
    real, fake = checked_pair(real, fake)
    check_k("manifold_k", manifold_k, real, fake)
    check_k("density_k", density_k, real)
    smallest = min(len(real), len(fake))
    if subset_size is None:
        subset_size = max(2, min(1000, smallest // 10))
    _check_subsets(subset_size, num_subsets, smallest)
    kernel = kernel_distance(real, fake, subset_size, num_subsets, seed)

    space = Space(real, fake)
    manifold, balls = squared_radii(space.real, manifold_k, density_k)
    (fake_manifold,) = squared_radii(space.fake, manifold_k)
    overlap = Overlap(space, manifold, fake_manifold)
    occupancy = Occupancy(space, balls, density_k)
    for rows, squared in blocks(space.real, space.fake):
        overlap.add(rows, squared)
        occupancy.add(rows, squared)
    return SampleMetrics(
        *overlap.result(),
        *occupancy.result(),
        kernel_distance=kernel.mean,
        kernel_distance_error=kernel.standard_error,
        num_real=len(real),
        num_fake=len(fake),
    )


def kernel_distance(
    real: ArrayLike,
    fake: ArrayLike,
    subset_size: int = 1000,
    num_subsets: int = 100,
    seed: int = 0,
) -> KernelDistance:
    """Compute the squared maximum mean discrepancy under a cubic kernel (KID, with InceptionV3).

    The unbiased estimate of Binkowski et al. 2018 ("Demystifying MMD GANs", arXiv:1801.01401,
    Eq. 4) with the kernel ``(x . y / D + 1)^3``, averaged over random subsets without replacement.
    Being unbiased, it may be negative. Reported values are often multiplied by 1,000.

    Args:
        real: embeddings of real images [N, D].
        fake: embeddings of samples [M, D], of the same judge.
        subset_size: drawn from each of the two; 2 to the smaller of N and M.
        num_subsets: at least 2.
        seed: of the choice of subsets.

    Raises:
        ValueError: shapes that disagree, values that are not finite, or a number out of its range.

    Example:
        Kernels (1 + 1)^3 between the real, 1 between the others.

        >>> kernel_distance([[1.0], [1.0]], [[0.0], [0.0]], subset_size=2)
        KernelDistance(mean=7.0, std=0.0, num_subsets=100, num_disjoint=1)
    """
    real, fake = checked_pair(real, fake)
    smallest = min(len(real), len(fake))
    _check_subsets(subset_size, num_subsets, smallest)
    rng = np.random.default_rng(seed)
    values = np.empty(num_subsets)
    for subset in range(num_subsets):
        x, y = (each[rng.choice(len(each), subset_size, replace=False)] for each in (real, fake))
        values[subset] = _unbiased_discrepancy(x, y)
    return KernelDistance(
        float(values.mean()), float(values.std(ddof=1)), num_subsets, smallest // subset_size
    )


def _unbiased_discrepancy(x: Array, y: Array) -> float:
    """Unbiased MMD^2 of two samples [S, D] of one size."""
    size, dimension = x.shape
    pairs = size * (size - 1)
    within = 0.0
    for z in (x, y):
        kernel = (z @ z.T / dimension + 1) ** 3
        within += (kernel.sum() - np.trace(kernel)) / pairs
    return float(within - 2 * ((x @ y.T / dimension + 1) ** 3).mean())


def _check_subsets(subset_size: int, num_subsets: int, smallest: int) -> None:
    if not 2 <= subset_size <= smallest:
        raise ValueError(
            f"subset_size: got {subset_size}, allowed are 2 .. {smallest}, the smaller set; "
            "lower it or give more samples"
        )
    if num_subsets < 2:
        raise ValueError(f"num_subsets: got {num_subsets}, allowed is >= 2")
