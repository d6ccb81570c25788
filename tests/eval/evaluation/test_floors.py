"""Floors against direct computation on the bundle's real images."""

from dataclasses import asdict

import numpy as np
import pytest

from eval.evaluation.floors import floors
from eval.judges.judge import Judge, bundle_judge
from eval.judges.references import reference, reference_from_file
from eval.metrics.sample_metrics import inception_style_score, sample_metrics
from nat_env.bundles.judging import frechet_of
from nat_env.bundles.statistics import GaussianStatistics, frechet_distance


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
    direct = frechet_of(digits, [decoded])
    assert own["frechet_distance"] == pytest.approx(direct, rel=1e-4)
    assert own["num_samples"] == len(digits.reals.ids)
    samples = GaussianStatistics.from_embeddings(pixels.embeddings(decoded))
    direct = frechet_distance(samples, judges[1].statistics)
    assert rows["pixels", "reconstruction"]["frechet_distance"] == pytest.approx(direct, rel=1e-4)
    assert rows["digits-judge", "real"]["frechet_distance"] == digits.quality["real_floor"]
    assert not any("precision" in row for row in rows.values())


@pytest.mark.parametrize("num_samples", [300, 2000])
def test_as_many_real_images_are_measured_as_there_are_samples(digits, num_samples):
    judged = reference(digits, bundle_judge(digits), metrics=True)
    rows = by_name(floors(digits, [judged], num_samples))
    real = digits.reals.images.float() / 255
    decoded = digits.tokenizer.decode(digits.reals.ids)
    order = np.random.default_rng(0).permutation(1437)
    size = min(num_samples, 718)  # half of them, where they are too few
    one, other = real[order[:size]], real[order[size:]]
    cases = {"real others": (other, one), "reconstruction": (real, decoded[order[:num_samples]])}
    for name, (reals, fakes) in cases.items():
        row = rows["digits-judge", name]
        assert row["evaluation_samples"] == num_samples
        assert row["num_samples"] == row["num_fake"] == len(fakes)
        assert row["num_real"] == len(reals)
        x, y = (digits.yardstick.judge.embeddings(images).numpy() for images in (reals, fakes))
        # A rounding in another batch may move one image across the edge of a ball.
        for metric, value in asdict(sample_metrics(x, y)).items():
            assert row[metric] == pytest.approx(value, abs=2e-3), metric
        score, spread = inception_style_score(digits.yardstick.judge(fakes).softmax(dim=1))
        assert (row["score"], row["score_std"]) == pytest.approx((score, spread), rel=1e-4)
    x, y = (
        GaussianStatistics.from_embeddings(digits.yardstick.judge.embeddings(half))
        for half in (one, other)
    )
    others = rows["digits-judge", "real others"]
    assert others["frechet_distance"] == pytest.approx(frechet_distance(x, y), rel=1e-3)
    # What theory says of N and M draws of one distribution: a real image has none of the N among
    # its 5 nearest of all, if these are of the M. Half of them does for N = M.
    assert others["density"] == pytest.approx(1.0, abs=0.08)
    total = 1437
    uncovered = np.prod([(total - size - i) / (total - 1 - i) for i in range(5)])
    assert others["coverage"] == pytest.approx(1 - uncovered, abs=0.03)


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
    # Against one point: the mean squared distance to it, but for the n - 1 of the covariance.
    expected = ((embeddings.mean(axis=0) - 100) ** 2).sum() + embeddings.var(axis=0, ddof=1).sum()
    found = rows["pixels", "reconstruction"]
    assert found["frechet_distance"] == pytest.approx(expected, rel=1e-6)
    assert found["reference"].startswith("stats.npz") and "precision" not in found
    assert rows["pixels", "real others"]["frechet_distance"] < 0.1
