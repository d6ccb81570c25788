"""Evaluation as the papers do it: drawn classes, a judge from a file, little kept."""

import math
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

import eval.commands.nat_eval
from eval.commands.arguments import Eval
from eval.commands.nat_eval import run
from eval.evaluation.measure import measure
from eval.evaluation.quantities import QuantitiesAccumulator
from eval.evaluation.rows import Results
from eval.judges.clip import Agreement
from eval.judges.judge import Judge
from eval.judges.references import Reference
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.statistics import GaussianStatistics, frechet_distance
from nat_env.frozen.conditions import uniform_conditions
from nat_env.generation import generate
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule
from nat_env.seeds import NAT_EVAL

SIZE = 4


@pytest.fixture
def bare(digits) -> Bundle:
    """What a converted checkpoint is: models and conditions, nothing else."""
    return replace(digits, yardstick=None, reals=None, trunk=None)


@pytest.fixture
def policy() -> ScheduledPolicy:
    return ScheduledPolicy(heuristic_schedule(2))


def quarters(images):
    return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


@pytest.fixture
def inception(monkeypatch, tmp_path, bare):
    """Stands in for InceptionV3: four numbers of an image; and a published file of statistics."""
    judge = Judge("inception-v3", quarters, classifier=lambda embeddings: 9 * embeddings)
    monkeypatch.setattr(eval.commands.nat_eval, "inception_v3", lambda path, device: judge)
    monkeypatch.setattr(eval.commands.nat_eval, "load_bundle", lambda *_, **__: bare)
    mean, sigma = np.full(SIZE, 0.5), np.eye(SIZE) / 16
    np.savez(tmp_path / "published.npz", mu=mean, sigma=sigma)
    return GaussianStatistics(mean, sigma, count=None)


def drawn(bundle, policy, count, seed=0):
    """The images of a seed of nat-eval, classes drawn, and these."""
    first = NAT_EVAL.seed_of(seed)
    conditions = uniform_conditions(count, len(bundle.conditions), [first, 2])
    return generate(bundle, policy, conditions, 2, first), conditions


def test_classes_are_drawn_alike_and_for_each_seed_anew():
    many = uniform_conditions(20_000, 10, seed=1)
    counts = many.bincount(minlength=10)
    assert many.dtype == torch.int64 and len(counts) == 10
    assert 1 < float(((counts - 2000) ** 2).sum() / 2000) < 30  # chi squared of 9: drawn, alike
    assert torch.equal(many[:5], uniform_conditions(5, 10, seed=1))
    assert not torch.equal(many, uniform_conditions(20_000, 10, seed=2))


def test_one_command_without_judge_and_images_gives_fid_and_inception_score(
    bare, policy, inception, tmp_path
):
    arguments = Eval(
        policies=("heuristic",), out=tmp_path / "out", num_steps=2, num_samples=60, bundle="bare",
        inception=tmp_path / "weights.pth", inception_statistics=tmp_path / "published.npz",
        conditions="uniform", batch_size=16, progress=False, dtype="float32",
    )  # fmt: skip
    table, pictures = run(arguments)
    images, _ = drawn(bare, policy, 60)
    embeddings = quarters(images).double().numpy()
    fid = frechet_distance(GaussianStatistics.from_embeddings(embeddings), inception)
    (row,) = Results(tmp_path / "out" / "results.json").rows
    assert row["frechet_distance"] == pytest.approx(fid, rel=1e-4)
    assert (row["conditions"], row["class_accuracy"]) == ("uniform", None)

    # Salimans et al. 2016: ten parts of a random order, each against its own marginal.
    chances = torch.softmax(9 * torch.from_numpy(embeddings), dim=1).numpy()
    parts = np.array_split(np.random.default_rng(0).permutation(60), 10)
    scores = [
        np.exp((p * (np.log(p) - np.log(p.mean(axis=0)))).sum(axis=1).mean())
        for p in (chances[part] for part in parts)
    ]
    assert row["score"] == pytest.approx(np.mean(scores), rel=1e-4)
    assert row["score_std"] == pytest.approx(np.std(scores, ddof=1), rel=1e-3)
    assert f"| inception-v3, N = 60 | {fid:.2f} |" in table
    assert f"{np.mean(scores):.2f} |" in table
    assert {path.stem.split("_")[0] for path in pictures} == {"distances", "samples", "quantities"}

    # Classes in turn are another evaluation, beside it.
    run(replace(arguments, conditions="balanced", pictures=False))
    rows = Results(tmp_path / "out" / "results.json").rows
    assert [row["conditions"] for row in rows] == ["uniform", "balanced"]
    assert rows[0]["frechet_distance"] != rows[1]["frechet_distance"]


def test_what_is_missing_is_named_before_any_sample(bare, inception, tmp_path):
    options = dict(policies=("heuristic",), out=tmp_path / "out", bundle="bare", progress=False)
    with pytest.raises(ValueError, match=r"^bundle: .* has no yardstick: .*--inception-statistics"):
        run(Eval(**options))
    with pytest.raises(ValueError, match=r"^inception_statistics: got none.* no real images"):
        run(Eval(**options, clip=tmp_path, inception=tmp_path / "weights.pth"))
    with pytest.raises(ValueError, match=r"^clip: got .*nowhere', allowed is the folder"):
        run(Eval(**options, clip=tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"^clip_prompt: got 'a photo', allowed .*\{\}"):
        run(Eval(**options, clip=tmp_path, clip_prompt="a photo"))
    assert not (tmp_path / "out" / "results.json").exists()


def test_clip_score_is_the_mean_over_samples_and_kept(bare, policy, tmp_path, monkeypatch):
    monkeypatch.setattr(eval.commands.nat_eval, "load_bundle", lambda *_, **__: bare)
    calls: list[int] = []

    def score(images, conditions):
        calls.append(len(images))
        return images.mean(dim=(1, 2, 3)) + conditions

    found = Agreement("clip@12345678", "10 prompts, SHA-256 ab", score)
    monkeypatch.setattr(eval.commands.nat_eval, "clip_agreement", lambda *given: found)
    arguments = Eval(
        policies=("heuristic",), out=tmp_path / "out", num_steps=2, num_samples=50, bundle="bare",
        clip=tmp_path, conditions="uniform", batch_size=16, progress=False, dtype="float32",
        pictures=False,
    )  # fmt: skip
    table, _ = run(arguments)
    images, conditions = drawn(bare, policy, 50)
    expected = float((images.mean(dim=(1, 2, 3)) + conditions).mean())
    (row,) = Results(tmp_path / "out" / "results.json").rows
    assert row["clip_score"] == pytest.approx(expected, rel=1e-5)
    assert f"| clip@12345678, N = 50 | {expected:.4f} | 10 prompts, SHA-256 ab |" in table
    assert "FD" not in table.split("quantity")[0]
    assert calls == [16, 16, 16, 2]
    run(arguments)
    assert len(calls) == 4  # the row was there


@pytest.mark.parametrize("metrics", [False, True])
def test_embeddings_are_kept_for_precision_alone(digits, policy, monkeypatch, metrics):
    """However many samples: a distance needs of every batch only what changes the moments."""
    given: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []
    numpy = torch.Tensor.numpy

    def watched(self, **options):
        found = numpy(self, **options)
        if found.shape[1:] == (SIZE,) and found.dtype == np.float32:
            given.append(weakref.ref(found))
        return found

    def network(images):
        alive.append(sum(len(a) for reference in given if (a := reference()) is not None))
        return quarters(images)

    monkeypatch.setattr(torch.Tensor, "numpy", watched)
    published = GaussianStatistics(np.zeros(SIZE), np.eye(SIZE), count=None)
    real = np.random.default_rng(0).normal(size=(60, SIZE)).astype(np.float32)
    reference = Reference(
        Judge("quarters", network), published, "", np.arange(0), real if metrics else None
    )
    measure(digits, policy, 2, 60, 0, [reference], batch_size=10)
    assert alive == ([0, 10, 20, 30, 40, 50] if metrics else [0] * 6)


def test_quantities_are_those_of_all_samples_at_once():
    rng = np.random.default_rng(0)
    actions = 1e3 + rng.normal(size=(3, 50, 4))  # [T, N, 4]; sums of squares would cancel
    classes = rng.integers(5, size=50)
    accumulator = QuantitiesAccumulator(3, 6)  # of class 5 there is none
    for start in range(0, 50, 8):
        for step in range(3):
            batch = slice(start, start + 8)
            accumulator.update(step, actions[step, batch], classes[batch])
    found = accumulator.result()
    np.testing.assert_allclose(found.mean, actions.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.std, actions.std(axis=1, ddof=1), rtol=1e-9)
    within = actions.copy()
    for c in range(5):
        within[:, classes == c] -= actions[:, classes == c].mean(axis=1, keepdims=True)
    # Five means have been taken away.
    np.testing.assert_allclose(found.std_within, within.std(axis=1, ddof=5), rtol=1e-9)


def test_maps_that_are_opposite_differ_however_alike_their_spreads_are():
    """Of tokens: the spread of the mean map, and how far samples are from it, root mean square."""
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=6), rng.normal(size=6)
    signs, classes = np.tile([1.0, -1.0], 20), np.repeat([0, 1], 20)
    maps = shared + signs[:, None] * own  # [40, 6], half of each kind in each class
    accumulator = QuantitiesAccumulator(1, 2, ("guidance_scale", *["map"] * 6))
    accumulator.update(0, np.concatenate([np.ones((40, 1)), maps], axis=1), classes)
    found = accumulator.result()
    assert found.names == ("guidance_scale", "map")
    np.testing.assert_allclose(found.mean[0], [1.0, shared.std()])
    size = math.sqrt(np.square(own).mean())
    np.testing.assert_allclose(found.std[0], [0.0, size * math.sqrt(40 / 39)])
    np.testing.assert_allclose(found.std_within[0], [0.0, size * math.sqrt(40 / 38)])


def test_of_one_sample_a_class_nobody_can_tell_what_lies_within():
    rng = np.random.default_rng(0)
    accumulator = QuantitiesAccumulator(1, 4000)
    accumulator.update(0, rng.normal(size=(300, 4)), np.arange(300))
    assert np.isnan(accumulator.result().std_within).all()
    assert np.isfinite(accumulator.result().std).all()
    # A pair of one class tells, by half of its squared difference.
    pair = rng.normal(size=(1, 4))
    accumulator.update(0, pair, np.array([7]))
    first = np.random.default_rng(0).normal(size=(300, 4))[7]
    variance = (pair[0] - first) ** 2 / 2
    np.testing.assert_allclose(accumulator.result().std_within[0] ** 2, variance, rtol=1e-9)
