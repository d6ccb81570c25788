"""Metrics on embeddings, against torchmetrics, double loops over samples, theory and by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

import nat_env.metrics.neighbours
from eval.metrics.sample_metrics import (
    density_coverage,
    inception_style_score,
    kernel_distance,
    precision_recall,
    sample_metrics,
)
from eval.metrics.score import ScoreAccumulator


class Identity(nn.Module):
    """Takes what torchmetrics believes to be images for embeddings."""

    num_features = 8

    def forward(self, images: Tensor) -> Tensor:
        return images


def two_sets(seed: int = 0, num_real: int = 60, num_fake: int = 45, dimension: int = 4):
    rng = np.random.default_rng(seed)
    real = rng.normal(size=(num_real, dimension))
    return real, 0.8 * rng.normal(size=(num_fake, dimension)) + 0.7


def distance(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(((x - y) ** 2).sum()))


def radius(embeddings: np.ndarray, row: int, k: int) -> float:
    others = [distance(embeddings[row], embeddings[i]) for i in range(len(embeddings)) if i != row]
    return sorted(others)[k - 1]


def looped_precision(real: np.ndarray, fake: np.ndarray, k: int) -> float:
    radii = [radius(real, i, k) for i in range(len(real))]
    inside = [any(distance(x, y) <= r for x, r in zip(real, radii, strict=True)) for y in fake]
    return sum(inside) / len(fake)


def looped_density_coverage(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float]:
    held = [sum(distance(real[i], y) < radius(real, i, k) for y in fake) for i in range(len(real))]
    return sum(held) / (k * len(fake)), sum(h > 0 for h in held) / len(real)


def looped_kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    def mean(a: np.ndarray, b: np.ndarray, distinct: bool) -> float:
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not distinct or i != j]
        return sum((a[i] @ b[j] / len(a[i]) + 1) ** 3 for i, j in pairs) / len(pairs)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.filterwarnings("ignore:Metric .* will save all:UserWarning")  # torchmetrics warns
def test_kernel_distance_is_torchmetrics_on_the_whole():
    # A subset as large as the sets is the sets: no choice is left, and no spread.
    real, fake = two_sets(num_real=40, num_fake=40, dimension=8)
    metric = KernelInceptionDistance(Identity(), subsets=3, subset_size=40).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    theirs, _ = metric.compute()
    ours = kernel_distance(real, fake, subset_size=40, num_subsets=3)
    assert ours.mean == pytest.approx(theirs.item(), rel=1e-5)  # they round to float32
    assert ours.mean == pytest.approx(looped_kernel_distance(real, fake), rel=1e-12)
    assert ours.std < 1e-12


def test_kernel_distance_averages_over_its_subsets():
    real, fake = two_sets(num_real=12, num_fake=9)
    rng = np.random.default_rng(5)
    values = []
    for _ in range(4):
        x = real[rng.choice(12, 6, replace=False)]
        y = fake[rng.choice(9, 6, replace=False)]
        values.append(looped_kernel_distance(x, y))
    measured = kernel_distance(real, fake, subset_size=6, num_subsets=4, seed=5)
    assert measured.mean == pytest.approx(sum(values) / 4, rel=1e-12)
    assert measured.std == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    # One subset of 6 fits into 9 samples: the other three tell nothing new.
    assert measured.standard_error == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert kernel_distance(real, fake, 6, 4, seed=6) != measured


def test_kernel_distances_error_is_its_spread_over_fresh_draws():
    # 100 subsets of 20, of which 10 fit side by side into 200 samples.
    rng = np.random.default_rng(12)
    draws = [
        kernel_distance(rng.normal(size=(300, 3)), rng.normal(loc=1.0, size=(200, 3)), 20, 100, i)
        for i in range(300)
    ]
    spread = np.std([draw.mean for draw in draws], ddof=1)
    error = np.sqrt(np.mean([draw.standard_error**2 for draw in draws]))
    assert error == pytest.approx(spread, rel=0.15)


def test_subsets_are_a_tenth_of_the_smaller_set():
    real, fake = two_sets()
    kernel = kernel_distance(real, fake, subset_size=4)
    assert kernel.num_disjoint == 11
    assert sample_metrics(real, fake).kernel_distance == kernel.mean


def test_kernel_distance_of_one_distribution_is_zero_on_average():
    # Unbiased: 2,000 draws of 10 samples each, whose biased estimates would all be positive.
    rng = np.random.default_rng(0)
    values = [
        kernel_distance(*rng.normal(size=(2, 10, 3)), subset_size=10, num_subsets=2).mean
        for _ in range(2000)
    ]
    assert min(values) < 0
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(2000)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_neighbour_metrics_are_those_of_a_double_loop(k):
    real, fake = two_sets()
    precision, recall = precision_recall(real, fake, k)
    assert 0 < recall < 1 and 0 < precision <= 1
    assert precision == looped_precision(real, fake, k)
    assert recall == looped_precision(fake, real, k)
    density, coverage = looped_density_coverage(real, fake, k)
    assert density_coverage(real, fake, k) == (pytest.approx(density, rel=1e-12), coverage)


@pytest.mark.parametrize("block_size", [1, 100, 7 * 45])
def test_neighbour_metrics_do_not_depend_on_the_blocks(monkeypatch, block_size):
    real, fake = two_sets()
    whole = precision_recall(real, fake), density_coverage(real, fake)
    monkeypatch.setattr(nat_env.metrics.neighbours, "_BLOCK_SIZE", block_size)
    assert (precision_recall(real, fake), density_coverage(real, fake)) == whole


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_set_against_its_own_copy(offset):
    # Shuffled, so that no product of one set equals that of the other bit by bit. Far from the
    # origin, distances are small differences between large numbers.
    rng = np.random.default_rng(1)
    embeddings = rng.normal(size=(200, 32)) + offset
    copy = rng.permutation(embeddings)
    assert precision_recall(embeddings, copy) == (1.0, 1.0)
    assert density_coverage(embeddings, copy) == (pytest.approx(1.0, rel=1e-12), 1.0)


def test_sets_far_apart():
    real, fake = two_sets()
    assert precision_recall(real, fake + 100) == (0.0, 0.0)
    assert density_coverage(real, fake + 100) == (0.0, 0.0)
    assert kernel_distance(real, fake + 100, subset_size=40).mean > 1e6


def test_copies_are_at_distance_zero():
    # As a tokenizer makes them. Every row has a copy: closed balls of radius 0 at k = 1, which hold
    # the copies. With sets of these odd sizes a product rounds otherwise here than there, and
    # without a tolerance one sample in eight falls out.
    rng = np.random.default_rng(2)
    real = np.repeat(rng.normal(size=(203, 333)) * 30, 2, axis=0)
    some = rng.permutation(real)[:77]
    assert precision_recall(real, some, k=1)[0] == 1.0
    assert precision_recall(some, real, k=1)[1] == 1.0
    # Open balls of radius 0 are empty; at k = 2 they reach to the next other row.
    assert density_coverage(real, some, k=1) == (0.0, 0.0)
    assert density_coverage(real, real, k=2) == (1.0, 1.0)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_small_distances_are_not_taken_for_zero(offset):
    # Copies in pairs, moved by far less than neighbours are apart, wherever the origin is.
    real = np.repeat(np.random.default_rng(2).normal(size=(50, 64)) + offset, 2, axis=0)
    assert precision_recall(real, real + 1e-3, k=1) == (0.0, 0.0)


def test_a_distance_that_equals_the_radius():
    # By hand: balls of radius 1 around 0 and 1; the samples -1 and 2 lie on their edges.
    real, fake = [[0.0], [1.0]], [[-1.0], [2.0]]
    assert precision_recall(real, fake, k=1)[0] == 1.0
    assert density_coverage(real, fake, k=1) == (0.0, 0.0)


def test_mode_collapse_and_spread_are_told_apart():
    rng = np.random.default_rng(3)
    modes = rng.normal(size=(10, 8)) * 20
    real = np.repeat(modes, 30, axis=0) + rng.normal(size=(300, 8))
    collapsed = modes[0] + rng.normal(size=(300, 8))
    noisy = np.repeat(modes, 30, axis=0) + 4 * rng.normal(size=(300, 8))
    narrow, wide = sample_metrics(real, collapsed, subset_size=100), precision_recall(real, noisy)
    assert narrow.precision > 0.7 and narrow.recall < 0.2
    assert narrow.density > 0.7 and narrow.coverage < 0.2
    assert wide[0] < 0.3 and wide[1] > 0.7


@pytest.mark.parametrize(("num_fake", "k"), [(400, 1), (400, 5), (200, 3)])
def test_density_and_coverage_of_one_distribution_are_those_of_theory(num_fake, k):
    # Whatever the distribution, the k nearest of the others' N - 1 and the samples' M are a random
    # choice among them: P(none is a sample) = prod (N - i) / (N + M - i), i = 1 .. k (Naeem et
    # al., Lemma 2). A sample lies in a given ball with probability k / N.
    num_real, repeats = 400, 8
    rng = np.random.default_rng(4)
    values = [
        density_coverage(rng.normal(size=(num_real, 3)), rng.normal(size=(num_fake, 3)), k)
        for _ in range(repeats)
    ]
    i = np.arange(1, k + 1)
    expected = 1 - np.prod((num_real - i) / (num_real + num_fake - i))
    density, coverage = np.mean(values, axis=0)
    # Standard errors are about 0.02 of the density and 0.008 of the coverage.
    assert density == pytest.approx(1.0, abs=0.08)
    assert coverage == pytest.approx(expected, abs=0.03)


def test_sample_metrics_are_the_single_ones():
    real, fake = two_sets()
    metrics = sample_metrics(
        real, fake, manifold_k=2, density_k=4, subset_size=30, num_subsets=5, seed=9
    )
    kernel = kernel_distance(real, fake, 30, 5, seed=9)
    assert (metrics.precision, metrics.recall) == precision_recall(real, fake, 2)
    assert (metrics.density, metrics.coverage) == density_coverage(real, fake, 4)
    assert metrics.kernel_distance == kernel.mean
    assert metrics.kernel_distance_error == kernel.standard_error
    assert (metrics.num_real, metrics.num_fake) == (60, 45)
    assert all(isinstance(value, float | int) for value in dataclasses.astuple(metrics))


def test_float32_tensors_are_accepted_and_left_alone():
    real, fake = (torch.from_numpy(each).float() for each in two_sets())
    before = real.clone()
    metrics = sample_metrics(real, fake, subset_size=20)
    assert metrics == sample_metrics(real.double().numpy(), fake.double().numpy(), subset_size=20)
    assert torch.equal(real, before)


@pytest.mark.filterwarnings("ignore:Metric .* will save all:UserWarning")  # torchmetrics warns
def test_score_is_torchmetrics(monkeypatch):
    logits = torch.from_numpy(np.random.default_rng(6).normal(size=(120, 8)) * 2)
    order = torch.from_numpy(np.random.default_rng(7).permutation(120))
    monkeypatch.setattr(torch, "randperm", lambda _: order)  # they shuffle from the global state
    metric = InceptionScore(Identity(), splits=4)
    metric.update(logits)
    theirs = [value.item() for value in metric.compute()]
    ours = inception_style_score(logits.softmax(dim=1), num_splits=4, seed=7)
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert ours[1] > 0.01


def test_score_is_that_of_a_loop():
    rng = np.random.default_rng(8)
    probabilities = rng.dirichlet(np.full(5, 0.3), size=23)
    order = np.random.default_rng(1).permutation(23)
    scores = []
    for rows in (order[:6], order[6:12], order[12:18], order[18:]):
        marginal = [sum(probabilities[rows, c]) / len(rows) for c in range(5)]
        divergences = [
            sum(p * np.log(p / q) for p, q in zip(probabilities[row], marginal, strict=True))
            for row in rows
        ]
        scores.append(np.exp(sum(divergences) / len(rows)))
    mean, std = inception_style_score(probabilities, num_splits=4, seed=1)
    assert mean == pytest.approx(np.mean(scores), rel=1e-12)
    assert std == pytest.approx(np.std(scores, ddof=1), rel=1e-12)


def test_score_does_not_depend_on_the_batches():
    probabilities = np.random.default_rng(8).dirichlet(np.full(5, 0.3), size=23)
    accumulator = ScoreAccumulator(23, num_splits=4, seed=1)
    for batch in np.split(probabilities, [1, 9, 20]):
        accumulator.update(batch)
    whole = inception_style_score(probabilities, num_splits=4, seed=1)
    assert dataclasses.astuple(accumulator.score()) == pytest.approx(whole, rel=1e-12)
    with pytest.raises(ValueError, match="got 24 rows, allowed are N = 23"):
        accumulator.update(probabilities[:1])
    with pytest.raises(ValueError, match="got 0 samples, needed are N = 23"):
        ScoreAccumulator(23).score()


def test_score_of_certain_and_even_classes_is_their_number():
    # Class by class, as samples often come: dealt in that order, each part would score 1.
    certain = np.repeat(np.eye(4), 500, axis=0)
    mean, std = inception_style_score(certain, num_splits=5)
    assert mean == pytest.approx(4.0, abs=0.02)
    assert 0 < std < 0.02
    assert inception_style_score(certain[:500], num_splits=5) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("probabilities", "num_splits", "message"),
    [
        (np.array([[2.0, -1.0], [0.5, 0.5]]), 2, "softmax of logits"),
        (np.array([[0.6, 0.6], [0.5, 0.5]]), 2, "softmax of logits"),
        (np.full((4, 2), 0.5), 1, r"num_splits: got 1, allowed are 2 .. N = 4"),
        (np.full((4, 2), 0.5), 5, "num_splits: got 5"),
        (np.full((4, 2), np.nan), 2, "probabilities: 4 of 4 rows"),
        (np.full(4, 0.5), 2, r"probabilities: expected \[N, D\]"),
    ],
)
def test_score_checks_its_arguments(probabilities, num_splits, message):
    with pytest.raises(ValueError, match=message):
        inception_style_score(probabilities, num_splits)


@pytest.mark.parametrize(
    "metric", [kernel_distance, precision_recall, density_coverage, sample_metrics]
)
@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.zeros((9, 3)), np.zeros((9, 4)), "D = 3 and D = 4; take the embeddings of both"),
        (np.zeros(9), np.zeros((9, 4)), r"real: expected \[N, D\].*got \(9,\)"),
        (np.zeros((9, 4)), np.zeros((0, 4)), r"fake: .*got \(0, 4\)"),
        (np.zeros((9, 1)), np.array([[0.0], [np.nan], [np.inf]]), "fake: 2 of 3 rows.*not finite"),
    ],
)
def test_features_are_checked(metric, real, fake, message):
    with pytest.raises(ValueError, match=message):
        metric(real, fake)


def test_too_few_samples_say_what_is_allowed():
    few, many = np.eye(4), np.ones((9, 4))
    for real, fake in ((few, many), (many, few)):
        with pytest.raises(ValueError, match=r"k: got 4, allowed are 1 .. 3 with 4 samples; lower"):
            precision_recall(real, fake, k=4)
        with pytest.raises(ValueError, match=r"subset_size: got 5, allowed are 2 .. 4, the smalle"):
            kernel_distance(real, fake, subset_size=5)
        with pytest.raises(ValueError, match="manifold_k: got 4"):
            sample_metrics(real, fake, manifold_k=4, subset_size=4)
    with pytest.raises(ValueError, match="k: got 5"):
        density_coverage(few, many, k=5)
    density_coverage(many, few, k=5)  # balls around the real images only
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"k: got {k}"):
            precision_recall(many, many, k)
    for subset_size, num_subsets in ((1, 100), (4, 1)):
        with pytest.raises(ValueError, match=r"subset_size: got 1|num_subsets: got 1"):
            kernel_distance(many, many, subset_size, num_subsets)
