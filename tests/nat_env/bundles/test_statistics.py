"""Gaussian statistics and the Frechet distance, against other implementations and by hand."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from nat_env.bundles.statistics import (
    EmbeddingAccumulator,
    GaussianStatistics,
    balanced_statistics,
    frechet_distance,
)


def correlated(rng: np.random.Generator, count: int, dimension: int, offset: float = 0.0):
    mixing = rng.normal(size=(dimension, dimension))
    return rng.normal(size=(count, dimension)) @ mixing + offset


def accumulate(embeddings: np.ndarray, batch_size: int) -> GaussianStatistics:
    accumulator = EmbeddingAccumulator()
    for start in range(0, len(embeddings), batch_size):
        accumulator.update(embeddings[start : start + batch_size])
    return accumulator.statistics()


def assert_same(a: GaussianStatistics, b: GaussianStatistics) -> None:
    assert a.count == b.count
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=1e-10, atol=1e-10)


class Flatten(nn.Module):
    """Pixels as embeddings, in float64, so that torchmetrics rounds nothing to float32."""

    num_features = 12

    def forward(self, images: Tensor) -> Tensor:
        return images.double().flatten(1)


def test_statistics_are_numpys():
    embeddings = correlated(np.random.default_rng(0), 40, 5, offset=3.0)
    statistics = GaussianStatistics.from_embeddings(embeddings)
    np.testing.assert_allclose(statistics.mean, embeddings.mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance, np.cov(embeddings.T), rtol=1e-12)
    assert statistics.count == 40
    assert statistics.mean.dtype == statistics.covariance.dtype == np.float64


@pytest.mark.parametrize("batch_size", [1, 7, 64, 200])
def test_statistics_do_not_depend_on_batch_size(batch_size):
    # Float32 embeddings far from the origin: raw sums of squares would cancel.
    embeddings = correlated(np.random.default_rng(1), 200, 6, offset=1e3).astype(np.float32)
    whole = GaussianStatistics.from_embeddings(embeddings)
    assert_same(accumulate(embeddings, batch_size), whole)
    np.testing.assert_allclose(
        whole.covariance, np.cov(embeddings.T.astype(np.float64)), rtol=1e-10, atol=1e-10
    )


def test_merge_equals_one_accumulator():
    embeddings = correlated(np.random.default_rng(2), 50, 4)
    left, right = EmbeddingAccumulator(), EmbeddingAccumulator()
    left.merge(EmbeddingAccumulator())  # an empty share changes nothing
    left.update(embeddings[:20])
    right.merge(left)
    right.update(embeddings[20:])
    assert_same(right.statistics(), GaussianStatistics.from_embeddings(embeddings))
    assert_same(left.statistics(), GaussianStatistics.from_embeddings(embeddings[:20]))


def test_tensors_are_accepted():
    embeddings = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    assert_same(
        GaussianStatistics.from_embeddings(embeddings),
        GaussianStatistics.from_embeddings(embeddings.numpy()),
    )


def test_distance_of_diagonal_gaussians_by_hand():
    # Means differ by (1, 2, 0); standard deviations are (1, 2, 3) and (4, 2, 0):
    # 1 + 4 + (1 - 4)^2 + 0 + 3^2 = 23.
    a = GaussianStatistics(np.zeros(3), np.diag([1.0, 4.0, 9.0]), count=10)
    b = GaussianStatistics(np.array([1.0, 2.0, 0.0]), np.diag([16.0, 4.0, 0.0]), count=10)
    assert frechet_distance(a, b) == pytest.approx(23.0, rel=1e-14)


def test_distance_equals_torchmetrics():
    rng = torch.Generator().manual_seed(3)
    real = torch.rand(300, 3, 2, 2, generator=rng)
    fake = torch.rand(200, 3, 2, 2, generator=rng) ** 2
    metric = FrechetInceptionDistance(feature=Flatten(), normalize=True)
    for images, is_real in ((real, True), (fake, False)):
        for batch in images.split(64):
            metric.update(batch, real=is_real)
    a, b = (GaussianStatistics.from_embeddings(Flatten()(images)) for images in (real, fake))
    assert frechet_distance(a, b) == pytest.approx(metric.compute().item(), rel=1e-10)


def test_distance_equals_scipy():
    rng = np.random.default_rng(4)
    a = GaussianStatistics.from_embeddings(correlated(rng, 500, 20))
    b = GaussianStatistics.from_embeddings(correlated(rng, 300, 20, offset=0.5))
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance)
    expected = np.square(a.mean - b.mean).sum() + np.trace(
        a.covariance + b.covariance - 2 * np.real(root)
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_distance_of_singular_covariances():
    # Fewer samples than dimensions. With centred embeddings X and Y, the trace of the root is the
    # nuclear norm of X Y^T, which needs no root of a singular matrix.
    rng = np.random.default_rng(5)
    x, y = correlated(rng, 12, 64), correlated(rng, 20, 64, offset=0.1)
    a, b = GaussianStatistics.from_embeddings(x), GaussianStatistics.from_embeddings(y)
    x_scaled = (x - x.mean(0)) / np.sqrt(11)
    y_scaled = (y - y.mean(0)) / np.sqrt(19)
    root = np.linalg.norm(x_scaled @ y_scaled.T, ord="nuc")
    expected = np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_distance_keeps_precision_in_directions_of_small_variance():
    rng = np.random.default_rng(6)
    scales = np.logspace(0, -6, 100)
    x, y = (rng.normal(size=(80, 100)) * scales for _ in range(2))
    a, b = GaussianStatistics.from_embeddings(x), GaussianStatistics.from_embeddings(y)
    root = np.linalg.norm((x - x.mean(0)) @ (y - y.mean(0)).T, ord="nuc") / 79
    expected = np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("count", [200, 8])
def test_distance_is_a_metric_at_zero_and_symmetric(count):
    rng = np.random.default_rng(7)
    a = GaussianStatistics.from_embeddings(correlated(rng, count, 16))
    b = GaussianStatistics.from_embeddings(correlated(rng, count, 16))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
    assert 0.0 <= frechet_distance(a, a) < 1e-12 * np.trace(a.covariance)


def test_distance_of_constant_features():
    a = GaussianStatistics.from_embeddings(np.zeros((3, 2)))
    b = GaussianStatistics.from_embeddings(np.full((3, 2), 2.0))
    assert frechet_distance(a, b) == 8.0


def test_distance_rejects_different_dimensions():
    a = GaussianStatistics.from_embeddings(np.eye(3))
    b = GaussianStatistics.from_embeddings(np.eye(4))
    with pytest.raises(ValueError, match="D = 3 and D = 4"):
        frechet_distance(a, b)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.zeros((1, 3)), "at least 2 samples, got 1"),
        (np.zeros(3), r"got \(3,\)"),
        (np.zeros((0, 3)), r"got \(0, 3\)"),
        ([[0.0, np.nan], [1.0, 1.0]], "not finite"),
        ([[0.0, np.inf], [1.0, 1.0]], "not finite"),
    ],
)
def test_features_are_checked(embeddings, message):
    with pytest.raises(ValueError, match=message):
        GaussianStatistics.from_embeddings(embeddings)


def test_a_rejected_batch_leaves_the_accumulator_unchanged():
    accumulator = EmbeddingAccumulator()
    with pytest.raises(ValueError, match="at least 2 samples, got 0"):
        accumulator.statistics()
    accumulator.update(np.eye(3))
    before = accumulator.statistics()
    for embeddings in (np.zeros((2, 4)), np.full((2, 3), np.nan)):
        with pytest.raises(ValueError, match=r"D = 3|not finite"):
            accumulator.update(embeddings)
    assert_same(accumulator.statistics(), before)


@pytest.mark.parametrize(
    ("mean", "covariance", "count", "message"),
    [
        (np.zeros(2), np.eye(3), 5, "covariance \\[D, D\\]"),
        (np.zeros(2), np.eye(2), 1, "at least 2 samples"),
        (np.zeros(2), np.full((2, 2), np.nan), 5, "not finite"),
        (np.zeros(0), np.zeros((0, 0)), 5, "covariance \\[D, D\\]"),
        (np.zeros(2), np.eye(2), 0, "at least 2 samples"),
        (np.zeros(2), np.eye(2), -3, "at least 2 samples"),
        (np.zeros(2), np.eye(2), 5.5, "at least 2 samples, got 5.5"),
        (np.zeros(2), np.eye(2), np.inf, "at least 2 samples"),
        (np.zeros(2), np.eye(2), True, "at least 2 samples"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]), 5, "not symmetric"),
        # Beside a variance that hides it.
        (np.zeros(3), np.diag([1e6, 1, 1]) + np.eye(3, k=-1) / 2, 5, "not symmetric"),
        (np.zeros(2), -np.eye(2), None, "variance below 0"),
        (np.zeros(2), np.diag([1e6, -0.5]), None, "variance below 0"),
        (np.zeros(2), np.array([[1.0, 2], [2, 1]]), None, "correlation beyond 1"),
        # Of three that are each correlated by -0.9 with both others.
        (np.zeros(3), np.full((3, 3), -0.9) + 1.9 * np.eye(3), 9, "eigenvalue -0.8 beside 1.9"),
        (np.zeros(2) + 1j, np.eye(2), 5, "mean: got complex128"),
        (np.zeros(2), np.eye(2) * (1 + 0j), 5, "covariance: got complex128"),
        (np.array(["0", "0"]), np.eye(2), 5, "mean: got <U1"),
        (np.zeros(2, dtype="m8[s]"), np.eye(2), 5, "mean: got timedelta64"),
        (np.zeros(2), np.eye(2, dtype=object), 5, "covariance: got object"),
    ],
)
def test_statistics_are_checked(mean, covariance, count, message):
    with pytest.raises(ValueError, match=message):
        GaussianStatistics(mean, covariance, count)


def test_statistics_weigh_classes_alike():
    """As many copies of each class as make them even, by numpy; their number only scales them."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 2, 2, 2, 2, 2, 2])
    copies = torch.tensor([6, 3, 1])[labels]
    repeated = features.repeat_interleave(copies, dim=0).numpy()  # 6 rows of each class
    got = balanced_statistics(features, labels)
    np.testing.assert_allclose(got.mean, repeated.mean(axis=0))
    squares = (copies.double() / 18).square().sum().item()
    np.testing.assert_allclose(got.covariance * (1 - squares), np.cov(repeated.T, bias=True))
    assert got.count == 9
    even = balanced_statistics(features, torch.arange(9) % 3)
    np.testing.assert_allclose(even.covariance, np.cov(features.numpy().T))


@pytest.mark.parametrize(
    ("embeddings", "labels"),
    [(np.zeros(3), np.zeros(3)), (np.zeros((3, 2)), np.zeros(2)), (np.zeros((1, 2)), np.zeros(1))],
)
def test_balanced_statistics_need_a_label_each(embeddings, labels):
    with pytest.raises(ValueError, match="embeddings: got"):
        balanced_statistics(embeddings, labels)


def test_rounding_to_float32_and_singular_covariances_are_no_fault():
    rng = np.random.default_rng(0)
    embeddings = correlated(rng, 20, 50).astype(np.float32) * np.logspace(0, -6, 50)
    statistics = GaussianStatistics.from_embeddings(embeddings)
    rounded = statistics.covariance.astype(np.float32)
    again = GaussianStatistics(statistics.mean, rounded, np.int64(20))
    assert frechet_distance(statistics, again) < 1e-5 * np.trace(statistics.covariance)
    GaussianStatistics(np.zeros(3), np.zeros((3, 3)), None)
