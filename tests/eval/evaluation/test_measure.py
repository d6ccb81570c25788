"""`measure` against direct computation on the images of `generate`."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

import eval.evaluation.measure
from agents.runs.checkpoint import load_policy
from eval.evaluation.measure import measure
from eval.evaluation.policies import ShuffledPolicy
from eval.judges.drawing import alike
from eval.judges.judge import Judge, bundle_judge
from eval.judges.references import Reference, reference
from eval.metrics.sample_metrics import inception_style_score, sample_metrics
from nat_env.bundles.judging import frechet_of
from nat_env.bundles.statistics import GaussianStatistics, frechet_distance
from nat_env.frozen.conditions import balanced_conditions
from nat_env.generation import StepRecord, generate, generate_batches
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule
from nat_env.seeds import NAT_EVAL


@pytest.fixture(scope="module")
def heuristic() -> ScheduledPolicy:
    return ScheduledPolicy(heuristic_schedule(2))


def judged_by_own(bundle):
    return [reference(bundle, bundle_judge(bundle))]


def test_passes_are_those_that_samples_took(digits):
    """Of batches of 32, 32 and 6 every other sample is revealed at once."""
    slow = ScheduledPolicy(heuristic_schedule(4))

    def policy(features, timestep):
        actions = slow(features, timestep).clone()
        actions[::2, 0] = 0.0
        actions[::2, 1] += 5.0 * timestep[::2]  # of no effect: these images are complete
        return actions

    result = measure(digits, policy, 4, 70, 3, judged_by_own(digits), batch_size=32)
    assert result.passes == (35 * 1 + 35 * 4) / 70
    table = heuristic_schedule(4).table.double().numpy()
    np.testing.assert_allclose(result.quantities.mean[1:], table[1:], rtol=1e-6)
    np.testing.assert_allclose(result.quantities.std[1:], 0.0, atol=1e-9)

    at_once = measure(
        digits, lambda f, t: slow(f, t) * torch.tensor([0.0, 1, 1, 1]), 4, 70, 3,
        judged_by_own(digits), batch_size=32,
    )  # fmt: skip
    assert at_once.passes == 1.0 and at_once.quantities.mean.shape == (1, 4)


def test_the_distance_is_that_of_generates_images(digits, heuristic):
    result = measure(digits, heuristic, 2, 70, 3, judged_by_own(digits), batch_size=32)
    conditions = balanced_conditions(70, len(digits.conditions))
    images = generate(digits, heuristic, conditions, 2, seed=NAT_EVAL.seed_of(3))
    direct = frechet_of(digits, [images])
    assert result.frechet_distances == {"digits-judge": pytest.approx(direct, rel=1e-4)}
    correct = (digits.yardstick.judge(images).argmax(dim=1) == conditions).float().mean().item()
    assert result.class_accuracy == pytest.approx(correct)
    assert result.num_samples == 70
    assert result.images_per_second == pytest.approx(70 / result.seconds)


def test_no_two_seeds_share_a_generator(digits, heuristic, monkeypatch):
    used = []

    def spy(bundle, policy, conditions, num_steps, seed, *rest):
        used.extend(range(seed, seed + len(conditions)))
        return generate_batches(bundle, policy, conditions, num_steps, seed, *rest)

    monkeypatch.setattr(eval.evaluation.measure, "generate_batches", spy)
    for seed in (0, 1, 2):
        measure(digits, heuristic, 2, 50, seed, [], batch_size=16)
    assert len(used) == len(set(used)) == 150
    assert used[50:100] == list(range(1_000_000, 1_000_050))


def test_a_batch_of_images_is_held_however_many_samples(digits, heuristic, images_alive):
    alive = images_alive(digits)
    measure(digits, heuristic, 2, 60, 0, judged_by_own(digits), batch_size=10)
    assert len(alive) == 7 and max(alive) <= 10  # one more to warm up


def test_quantities_are_those_of_the_steps(digits, make_run):
    policy = load_policy(make_run(num_steps=3), digits)
    result = measure(digits, policy, 3, 40, 0, [], batch_size=40)
    records: list[StepRecord] = []
    conditions = balanced_conditions(40, len(digits.conditions))
    generate(digits, policy, conditions, 3, 0, 40, records.append)
    actions = torch.stack([record.actions for record in records]).double().numpy()  # [T, B, 4]
    np.testing.assert_allclose(result.quantities.mean, actions.mean(axis=1))
    np.testing.assert_allclose(result.quantities.std, actions.std(axis=1, ddof=1), rtol=1e-6)
    assert (result.quantities.std > 0).all()
    within = actions.copy()
    for label in range(len(digits.conditions)):
        own = [i for i, condition in enumerate(conditions.tolist()) if condition == label]
        within[:, own] -= within[:, own].sum(axis=1, keepdims=True) / len(own)
    variance = (within**2).sum(axis=1) / 30  # of 40 less the means of 10
    np.testing.assert_allclose(result.quantities.std_within**2, variance, rtol=1e-6, atol=1e-15)
    assert (
        result.quantities.std_within[0] < 1e-6
    ).all()  # before the first token all know their label
    assert (result.quantities.std_within[1:, 1:] > 1e-6).all()  # m is at the box's edge


def test_a_schedule_has_no_spread(digits, heuristic):
    result = measure(digits, heuristic, 2, 50, 0, [], batch_size=16)
    np.testing.assert_array_equal(result.quantities.mean, heuristic.schedule.table.double().numpy())
    np.testing.assert_allclose(result.quantities.std, np.zeros((2, 4)), atol=1e-12)


def test_shuffling_changes_a_policy_that_adapts_and_no_other(digits, heuristic, make_run):
    judges = judged_by_own(digits)

    def distance(policy, shuffled):
        result = measure(digits, policy, 2, 60, 1, judges, batch_size=32, shuffle_features=shuffled)
        return result.frechet_distances["digits-judge"]

    learned = load_policy(make_run(), digits)
    assert distance(heuristic, True) == distance(heuristic, False)
    assert distance(learned, True) != distance(learned, False)
    images = torch.cat(
        [
            generate(digits, shuffled, labels, 2, NAT_EVAL.seed_of(1, 32 * i))
            for shuffled in [ShuffledPolicy(learned, seed=1)]
            for i, labels in enumerate(balanced_conditions(60, 10).split(32))
        ]
    )
    direct = frechet_of(digits, [images])
    assert distance(learned, True) == pytest.approx(direct, rel=1e-4)


def test_the_bundles_judge_uses_the_bundles_statistics(digits, heuristic, pixels):
    judges = [*judged_by_own(digits), reference(digits, pixels)]
    assert judges[0].statistics is digits.yardstick.statistics
    result = measure(digits, heuristic, 2, 40, 0, judges)
    assert list(result.frechet_distances) == ["digits-judge", "pixels"]
    images = generate(digits, heuristic, balanced_conditions(40, 10), 2, 0)
    samples = GaussianStatistics.from_embeddings(pixels.embeddings(images))
    direct = frechet_distance(samples, judges[1].statistics)
    assert result.frechet_distances["pixels"] == pytest.approx(direct, rel=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_samples": 1}, "num_samples: got 1, allowed are 2"),
        ({"num_samples": NAT_EVAL.stride + 1}, "num_samples"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": NAT_EVAL.limit}, "seed"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"num_steps": 0}, "num_steps: got 0"),
    ],
)
def test_numbers_are_checked(digits, heuristic, values, message):
    arguments = {"num_steps": 2, "num_samples": 10, "seed": 0, "judges": [], "batch_size": 8}
    with pytest.raises(ValueError, match=message):
        measure(digits, heuristic, **(arguments | values))


def test_metrics_are_those_of_the_features_of_generates_images(digits, heuristic, pixels):
    judges = [reference(digits, j, metrics=True) for j in (bundle_judge(digits), pixels)]
    judges.append(reference(digits, Judge("plain", pixels.network)))
    result = measure(digits, heuristic, 2, 70, 3, judges, batch_size=32)
    conditions = balanced_conditions(70, len(digits.conditions))
    images = generate(digits, heuristic, conditions, 2, seed=NAT_EVAL.seed_of(3))
    labels = digits.reals.conditions.numpy()
    kept = alike(labels, np.random.default_rng(0))
    assert len(set(np.bincount(labels[kept]))) == 1 and len(kept) == 10 * min(np.bincount(labels))
    real = digits.reals.images[kept].float() / 255
    assert set(result.metrics) == {"digits-judge", "pixels"}
    for name, network in (
        ("digits-judge", digits.yardstick.judge.embeddings),
        ("pixels", pixels.network),
    ):
        expected = sample_metrics(network(real).numpy(), network(images).numpy())
        for field, value in asdict(expected).items():
            assert asdict(result.metrics[name])[field] == pytest.approx(value, abs=1e-3), field


def test_the_score_is_that_of_generates_images_which_are_embedded_once(digits, heuristic, pixels):
    seen = []

    def network(images):
        seen.append(len(images))
        return digits.yardstick.judge.embeddings(images)

    counted = Judge("counted", network, classifier=digits.yardstick.judge.classifier)
    judges = [reference(digits, bundle_judge(digits)), reference(digits, pixels)]
    judges.append(Reference(counted, digits.yardstick.statistics, "", np.arange(0)))
    result = measure(digits, heuristic, 2, 70, 3, judges, batch_size=32)
    assert sum(seen) == 70
    assert set(result.scores) == {"digits-judge", "counted"}
    conditions = balanced_conditions(70, len(digits.conditions))
    images = generate(digits, heuristic, conditions, 2, seed=NAT_EVAL.seed_of(3))
    direct = inception_style_score(digits.yardstick.judge(images).softmax(dim=1))
    for score in result.scores.values():
        assert asdict(score) == pytest.approx({"mean": direct[0], "std": direct[1]}, rel=1e-3)
    assert 1 < direct[0] < 7  # parts of 7 images each
