"""References: which real images, files of statistics, and what is refused before any sample."""

import numpy as np
import pytest
import torch

from eval.judges.judge import Judge, bundle_judge
from eval.judges.references import reference, reference_from_file
from nat_env.bundles.statistics import GaussianStatistics, frechet_distance
from nat_env.storage.files import sha256
from nat_env.storage.state import save_state


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def weighed(embeddings, labels):
    """Mean and covariance in which each class has the same weight, a class at a time."""
    classes = [embeddings[labels == c] for c in np.unique(labels)]
    mean = np.mean([rows.mean(axis=0) for rows in classes], axis=0)
    covariance = np.mean([(rows - mean).T @ (rows - mean) / len(rows) for rows in classes], axis=0)
    squares = sum(1 / len(rows) for rows in classes) / len(classes) ** 2
    return mean, covariance / (1 - squares)


def test_samples_of_even_classes_are_at_no_distance_from_uneven_real_images(uneven, pixels):
    labels = uneven.reals.conditions.numpy()
    judged = reference(uneven, pixels, metrics=True)
    embeddings = pixels.embeddings(uneven.reals.images.float() / 255).double().numpy()
    mean, covariance = weighed(embeddings, labels)
    np.testing.assert_allclose(judged.statistics.mean, mean)
    np.testing.assert_allclose(judged.statistics.covariance, covariance)
    rng = np.random.default_rng(1)
    perfect = np.concatenate([rng.choice(embeddings[labels == c], 1000) for c in (0, 1)])
    samples = GaussianStatistics.from_embeddings(perfect)
    unweighed = GaussianStatistics.from_embeddings(embeddings)
    assert frechet_distance(samples, judged.statistics) < 1e-3
    assert frechet_distance(samples, unweighed) > 0.5
    # What counts images takes as many of each class.
    assert judged.embeddings.shape == (200, 4)
    assert (judged.embeddings.mean(axis=1) > 0.5).sum() == 100


def test_a_reference_of_some_images_has_classes_alike(digits, uneven, pixels):
    some = reference(digits, pixels, num_real=200)
    labels = digits.reals.conditions.numpy()[some.images]
    assert np.bincount(labels).tolist() == [20] * 10
    images = digits.reals.images[torch.from_numpy(some.images)].float() / 255
    plain = GaussianStatistics.from_embeddings(pixels.embeddings(images))
    np.testing.assert_allclose(some.statistics.mean, plain.mean, rtol=1e-6)
    np.testing.assert_allclose(some.statistics.covariance, plain.covariance, rtol=1e-6)
    assert some.description == "200 training images, classes alike"
    few = reference(uneven, pixels, num_real=600)
    assert np.bincount(uneven.reals.conditions[few.images]).tolist() == [300, 100]


def test_another_judges_reference_is_the_real_images_and_computed_once(digits, pixels, tmp_path):
    embeddings = pixels.embeddings(digits.reals.images.float() / 255).double().numpy()
    mean, covariance = weighed(embeddings, digits.reals.conditions.numpy())
    first = reference(digits, pixels, tmp_path / "new")
    assert first.description == f"{len(digits.reals.images)} training images, classes alike"
    np.testing.assert_allclose(first.statistics.mean, mean)
    np.testing.assert_allclose(first.statistics.covariance, covariance)

    def fails(images):
        if len(images) > 4:  # that many are for finding out D
            raise AssertionError("computed again")
        return pixels.network(images)

    again = reference(digits, Judge("pixels", fails), tmp_path / "new")
    np.testing.assert_array_equal(again.statistics.covariance, first.statistics.covariance)
    np.testing.assert_array_equal(again.statistics.mean, first.statistics.mean)
    assert again.statistics.count == len(digits.reals.images)
    with pytest.raises(AssertionError, match="computed again"):
        reference(digits, Judge("another", fails), tmp_path / "new")


def test_statistics_of_a_file_are_the_reference(digits, pixels, tmp_path):
    mean, covariance = np.arange(4.0), np.diag([1.0, 2.0, 3.0, 4.0]).astype(np.float32)
    path = saved(tmp_path / "stats.npz", mu=mean, sigma=covariance, mu_s=np.zeros(9))
    judged = reference_from_file(digits, pixels, path)
    np.testing.assert_array_equal(judged.statistics.mean, mean)
    np.testing.assert_array_equal(judged.statistics.covariance, covariance)
    assert judged.embeddings is None
    assert judged.description == f"stats.npz, SHA-256 {sha256(path)[:8]}"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(4)}, "sigma"),
        ({"mu": np.zeros(4), "sigma": np.eye(3)}, r"stats\.npz: .*got \(4,\) and \(3, 3\)"),
        ({"mu": np.zeros((2, 2)), "sigma": np.eye(4)}, r"got \(2, 2\)"),
        ({"mu": np.full(4, np.nan), "sigma": np.eye(4)}, "not finite"),
        ({"mu": np.zeros(4), "sigma": np.triu(np.ones((4, 4)))}, "not symmetric"),
        ({"mu": np.zeros(4), "sigma": -np.eye(4)}, "variance below 0"),
        ({"mu": np.zeros(4), "sigma": np.eye(4) + np.eye(4)[::-1] * 2}, "correlation beyond 1"),
        ({"mu": np.zeros(4) * 1j, "sigma": np.eye(4)}, "mu is complex128"),
        ({"mu": np.zeros(4), "sigma": np.eye(4) * 1j}, "sigma is complex128"),
        ({"mu": np.zeros(4), "sigma": np.eye(4, dtype=np.int8)}, "sigma is int8"),
        ({"mu": np.zeros(4, dtype=np.uint64), "sigma": np.eye(4)}, "mu is uint64"),
        ({"mu": np.array(list("0000")), "sigma": np.eye(4)}, "mu is <U1"),
        ({"mu": np.zeros(5), "sigma": np.eye(5)}, "D = 5, allowed is D = 4, .* judge pixels"),
        ({"mu": np.array([None] * 4), "sigma": np.eye(4)}, "cannot be read"),
    ],
)
def test_statistics_of_a_file_are_checked(digits, pixels, tmp_path, arrays, message):
    with pytest.raises(ValueError, match=rf"(?s)^statistics: .*{message}"):
        reference_from_file(digits, pixels, saved(tmp_path / "stats.npz", **arrays))


def test_a_statistics_file_that_is_none(digits, pixels, tmp_path):
    with pytest.raises(ValueError, match=r"absent\.npz is no file, allowed is a \.npz"):
        reference_from_file(digits, pixels, tmp_path / "absent.npz")
    whole = saved(tmp_path / "whole.npz", mu=np.zeros(4), sigma=np.eye(4)).read_bytes()
    np.save(tmp_path / "array.npy", np.eye(4))
    array = (tmp_path / "array.npy").read_bytes()
    for content in (b"", b"<html>", whole[: len(whole) // 2], array):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.npz cannot be read"):
            reference_from_file(digits, pixels, tmp_path / "bad.npz")


def test_statistics_of_another_judge_are_refused(digits, pixels):
    namesake = Judge(bundle_judge(digits).name, pixels.network)
    with pytest.raises(ValueError, match=r"bundle digits have D = 32, allowed is D = 4.*digits-j"):
        reference(digits, namesake)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"embeddings": torch.zeros(1437, 5)}, r"got \(1437, 5\), allowed is \[1437, 4\]"),
        ({"embeddings": torch.zeros(9, 4)}, r"got \(9, 4\)"),
        ({"embeddings": torch.full((1437, 4), torch.inf)}, "not finite"),
        ({"embeddings": "none"}, "got str"),
        ({}, "damaged"),
    ],
)
def test_cached_features_are_checked(digits, pixels, tmp_path, state, message):
    reference(digits, pixels, tmp_path)
    (path,) = tmp_path.iterdir()
    save_state(path, state)
    with pytest.raises(
        ValueError, match=rf"cache: .* judge pixels, .*; delete that file.*{message}"
    ):
        reference(digits, pixels, tmp_path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"judge pixels, .*; delete that file, which is damaged"):
        reference(digits, pixels, tmp_path)


def test_what_a_judge_gives_is_checked(digits, pixels, tmp_path):
    def network(value, image=0):
        def changed(images):
            embeddings = pixels.network(images)
            if len(images) > image:
                embeddings[image] = value
            return embeddings

        return changed

    for value in (torch.nan, -torch.inf):
        for metrics in (False, True):
            with pytest.raises(
                ValueError, match=r"judge: bad gives embeddings .* for 1 of 4 images"
            ):
                reference(digits, Judge("bad", network(value)), metrics=metrics)
    # One that the few images of the trial do not show is not written to the cache.
    with pytest.raises(ValueError, match=r"judge: bad gives embeddings .* of 1437 images"):
        reference(digits, Judge("bad", network(torch.nan, 5)), tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"judge: flat gives \(4, 1, 2, 2\) for 4 images"):
        reference(digits, Judge("flat", lambda images: images[:, :, :2, :2]))
    broken = Judge("broken", pixels.network, classifier=lambda embeddings: embeddings / 0)
    with pytest.raises(ValueError, match="judge: broken gives class probabilities that are not fi"):
        reference(digits, broken)
