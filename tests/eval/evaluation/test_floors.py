"""Floors against direct computation on the bundle's real images."""

from dataclasses import asdict

import numpy as np
import pytest

from eval.evaluation.floors import floors
from eval.judges.judge import Judge, bundle_judge
from eval.judges.references import reference, reference_from_file
from eval.metrics.sample_metrics import sample_metrics
from nat_env.bundles.statistics import GaussianStatistics, balanced_statistics, frechet_distance


def by_name(rows):
    return {(row["judge"], row["floor"]): row for row in rows}


def test_floors_are_distances_of_images(digits, pixels):
    judges = [reference(digits, bundle_judge(digits)), reference(digits, pixels)]
    rows = by_name(floors(digits, judges, num_samples=5000))
    names = ["reconstruction", "real others"]
    assert list(rows) == [
        *(("digits-judge", name) for name in [*names, "real"]),
        *(("pixels", name) for name in names),
    ]
    decoded = digits.tokenizer.decode(digits.reals.ids)
    own = rows["digits-judge", "reconstruction"]
    labels = digits.reals.conditions.numpy()
    own_embeddings = digits.yardstick.judge.embeddings(decoded)
    samples = balanced_statistics(own_embeddings, labels)
    direct = frechet_distance(samples, digits.yardstick.statistics)
    assert own["frechet_distance"] == pytest.approx(direct, rel=1e-4)
    assert own["num_samples"] == len(digits.reals.ids)
    samples = balanced_statistics(pixels.embeddings(decoded), labels)
    direct = frechet_distance(samples, judges[1].statistics)
    assert rows["pixels", "reconstruction"]["frechet_distance"] == pytest.approx(direct, rel=1e-4)
    assert rows["digits-judge", "real"]["frechet_distance"] == digits.quality["real_floor"]
    assert not any("precision" in row for row in rows.values())


def drawn(labels, count, seed, halves=False):
    """Numbers of images, of each class in turn the next of one permutation."""
    order = np.random.default_rng(seed).permutation(len(labels))
    classes = np.unique(labels)
    queues = {c: [i for i in order if labels[i] == c] for c in classes}
    most = {c: len(q) // 2 if halves else len(q) for c, q in queues.items()}
    share = -(-count // len(classes))
    turns = [queues[c][turn] for turn in range(share) for c in classes if turn < most[c]]
    return np.array(turns[:count])


def equal(labels, chosen):
    """As many of `chosen` of each class as the smallest of them has, see `drawn`."""
    counts = np.unique(labels[chosen], return_counts=True)[1]
    return chosen[np.sort(drawn(labels[chosen], len(counts) * counts.min(), 0))]


@pytest.mark.parametrize("num_samples", [300, 2000])
def test_as_many_real_images_are_measured_as_there_are_samples(digits, num_samples):
    judged = reference(digits, bundle_judge(digits), metrics=True)
    rows = by_name(floors(digits, [judged], num_samples))
    labels = digits.reals.conditions.numpy()
    real = digits.yardstick.judge.embeddings(digits.reals.images.float() / 255).numpy()
    decoded = digits.tokenizer.decode(digits.reals.ids)
    fake = digits.yardstick.judge.embeddings(decoded).numpy()
    ones = [drawn(labels, num_samples, seed, halves=True) for seed in range(3)]
    others = [np.setdiff1d(np.arange(1437), one) for one in ones]
    whole = drawn(labels, num_samples, 0)
    counts = np.bincount(labels[ones[0]])
    assert (
        (counts == 30).all() if num_samples == 300 else (counts == np.bincount(labels) // 2).all()
    )
    cases = {
        "real others": (real[equal(labels, others[0])], real[equal(labels, ones[0])], ones[0]),
        "reconstruction": (real[equal(labels, np.arange(1437))], fake[equal(labels, whole)], whole),
    }
    for name, (x, y, drawing) in cases.items():
        row = rows["digits-judge", name]
        assert row["evaluation_samples"] == num_samples
        assert row["num_samples"] == len(drawing)
        assert (row["num_real"], row["num_fake"]) == (len(x), len(y))
        # A rounding in another batch may move one image across the edge of a ball.
        for metric, value in asdict(sample_metrics(x, y)).items():
            assert row[metric] == pytest.approx(value, abs=2e-3), metric
    distances = [
        frechet_distance(*(balanced_statistics(real[part], labels[part]) for part in parts))
        for parts in zip(ones, others, strict=True)
    ]
    row = rows["digits-judge", "real others"]
    assert row["frechet_distance"] == pytest.approx(np.mean(distances), rel=1e-3)
    assert row["frechet_distance_std"] == pytest.approx(np.std(distances, ddof=1), rel=1e-2)
    assert row["draws"] == 3
    draws = rows["digits-judge", "reconstruction"]["draws"]
    assert draws == (3 if num_samples == 300 else 1)  # all there are
    # What theory says of N and M draws of one distribution: a real image has none of the N among
    # its 5 nearest of all, if these are of the M.
    assert row["density"] == pytest.approx(1.0, abs=0.08)
    size, total = row["num_fake"], row["num_fake"] + row["num_real"]
    uncovered = np.prod([(total - size - i) / (total - 1 - i) for i in range(5)])
    assert row["coverage"] == pytest.approx(1 - uncovered, abs=0.03)


def test_floors_of_uneven_classes_are_not_of_their_unevenness(uneven, pixels, monkeypatch):
    """The tokenizer gives images back as they are; so a floor is what the numbers of images are."""
    for name in ("encode", "decode"):
        monkeypatch.setattr(uneven.tokenizer, name, lambda images: images)
    rows = by_name(floors(uneven, [reference(uneven, pixels, metrics=True)], num_samples=1000))
    found = rows["pixels", "reconstruction"]
    assert found["num_samples"] == 600  # 500 of one class, all of the other
    assert found["frechet_distance"] < 1e-3 and found["num_fake"] == 200
    assert min(found["precision"], found["recall"]) > 0.9
    others = rows["pixels", "real others"]
    assert others["num_samples"] == 500 + 50 and others["frechet_distance"] < 1e-3
    assert (others["num_real"], others["num_fake"]) == (100, 100)
    embeddings = pixels.embeddings(uneven.reals.images.float() / 255)
    apart = GaussianStatistics.from_embeddings(embeddings)
    judged = reference(uneven, pixels).statistics
    assert frechet_distance(apart, judged) > 0.5


def test_every_image_is_embedded_once(digits, pixels, tmp_path):
    seen = []

    def network(images):
        seen.append(len(images))
        return pixels.network(images)

    judge, trials = Judge("counted", network, batch_size=256), 4
    judged = reference(digits, judge, tmp_path)
    first = floors(digits, [judged], 5000, cache=tmp_path)
    assert sum(size for size in seen if size != trials) == 2 * 1437
    del seen[:]
    measured = reference(digits, judge, tmp_path, metrics=True)
    again = floors(digits, [measured], 5000, cache=tmp_path)
    assert set(seen) == {trials}
    for row, other in zip(first, again, strict=True):
        assert row.items() <= other.items() and "recall" in other and "score" not in other


def test_statistics_of_a_file_give_distances_alone(digits, pixels, tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.full(4, 100.0), sigma=np.zeros((4, 4)))
    judged = reference_from_file(digits, pixels, tmp_path / "stats.npz")
    rows = by_name(floors(digits, [judged], 5000))
    embeddings = pixels.embeddings(digits.tokenizer.decode(digits.reals.ids)).double().numpy()
    samples = balanced_statistics(embeddings, digits.reals.conditions.numpy())
    # Against one point: the mean squared distance to it, but for the n - 1 of the covariance.
    expected = ((samples.mean - 100) ** 2).sum() + np.trace(samples.covariance)
    found = rows["pixels", "reconstruction"]
    assert found["frechet_distance"] == pytest.approx(expected, rel=1e-6)
    assert found["reference"].startswith("stats.npz") and "precision" not in found
    assert rows["pixels", "real others"]["frechet_distance"] < 0.1
