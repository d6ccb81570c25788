"""The Frechet distance under the bundle's judge, and how many images it needs."""

import numpy as np
import pytest

import nat_env
from nat_env.bundles.judging import check_rank, frechet_of
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.statistics import GaussianStatistics
from nat_env.models.pixels import to_float


def statistics(count):
    return GaussianStatistics(np.zeros(4), np.eye(4), count)


def test_more_images_than_features_on_both_sides():
    for count in (5, None):  # a file of statistics does not say how many
        check_rank("pixels", statistics(count), 5)
    with pytest.raises(ValueError, match=r"^judge: pixels gives .* of 4 numbers, .* 4 real images"):
        check_rank("pixels", statistics(4), 100)
    with pytest.raises(ValueError, match=r"^eval_samples: got 4, allowed is > 4, .* pixels"):
        check_rank("pixels", statistics(100), 4, "eval_samples")


def test_the_distance_of_batches_is_that_of_all_features_at_once():
    bundle = load_bundle("digits", dtype="float32")
    images = to_float(bundle.reals.images[:150]).flip(3)
    embeddings = bundle.yardstick.judge.embeddings(images).double().numpy()
    mean, covariance = embeddings.mean(axis=0), np.cov(embeddings, rowvar=False)
    real = bundle.yardstick.statistics
    eigenvalues = np.linalg.eigvals(covariance @ real.covariance)
    expected = np.square(mean - real.mean).sum() + np.trace(covariance + real.covariance)
    expected -= 2 * np.sqrt(eigenvalues.real.clip(0)).sum()
    assert expected > 1
    for batch_size in (1, 7, 64, 150):
        found = frechet_of(bundle, images.split(batch_size))
        assert found == pytest.approx(expected, rel=1e-5)
    assert nat_env.frechet_of(bundle, images) == pytest.approx(expected, rel=1e-5)  # a tensor
    assert nat_env.balanced_conditions(3, 2).tolist() == [0, 1, 0]
