"""Prompts with one real image each: what samples are compared with, floors, metrics, a study."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import eval.judges.references
from agents.learners.config import PRESETS
from eval.commands.arguments import Eval
from eval.commands.nat_eval import run
from eval.comparison import evaluate
from eval.evaluation.floors import floors
from eval.judges.drawing import draw, strata
from eval.judges.judge import bundle_judge
from eval.judges.references import reference
from eval.metrics.sample_metrics import sample_metrics
from eval.studies.arguments import Suite
from eval.studies.demo import what_it_draws
from eval.studies.suite import suite
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.reals import TensorReals
from nat_env.bundles.statistics import GaussianStatistics, frechet_distance
from nat_env.generation import generate
from nat_env.policies import ScheduledPolicy
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.schedules import heuristic_schedule
from nat_env.seeds import NAT_EVAL

SHIPPED = 48


@pytest.fixture
def captioned(captioned_folder):
    return load_bundle(captioned_folder, dtype="float32")


def seen_by(judge, bundle):
    """Embeddings of all real images, and of what the tokenizer makes of them."""
    real = bundle.reals.images.float() / 255
    decoded = bundle.tokenizer.decode(bundle.tokenizer.encode(real))
    return judge.embeddings(real).double().numpy(), judge.embeddings(decoded).double().numpy()


def distance(x, y):
    return frechet_distance(*map(GaussianStatistics.from_embeddings, (x, y)))


def test_the_reference_of_another_judge_is_all_real_images(captioned, pixels):
    judged = reference(captioned, pixels, metrics=True, num_real=5000)
    real, _ = seen_by(pixels, captioned)
    np.testing.assert_allclose(judged.statistics.mean, real.mean(axis=0))
    np.testing.assert_allclose(judged.statistics.covariance, np.cov(real.T), atol=1e-12)
    assert judged.statistics.count == len(judged.images) == SHIPPED
    assert judged.description == "48 training images"
    assert judged.embeddings is not None and len(judged.embeddings) == SHIPPED
    some = reference(captioned, pixels, num_real=20)
    assert len(set(some.images.tolist())) == 20 and some.statistics.count == 20


@pytest.mark.parametrize("num_samples", [20, 60])
def test_real_images_are_halved_without_regard_to_prompts(captioned, pixels, num_samples):
    judged = reference(captioned, pixels, metrics=True)
    (reconstruction, others) = floors(captioned, [judged], num_samples)
    real, decoded = seen_by(pixels, captioned)
    count = min(num_samples, SHIPPED // 2)
    assert others["num_samples"] == count and others["draws"] == 3
    assert others["reference"] == f"{SHIPPED - count} other training images"
    halves = [np.random.default_rng(seed).permutation(SHIPPED) for seed in range(3)]
    distances = [distance(real[order[:count]], real[order[count:]]) for order in halves]
    assert others["frechet_distance"] == pytest.approx(np.mean(distances), rel=1e-5)
    assert others["frechet_distance_std"] == pytest.approx(np.std(distances, ddof=1), rel=1e-4)
    one, other = np.sort(halves[0][:count]), np.sort(halves[0][count:])
    expected = sample_metrics(real[other].astype(np.float32), real[one].astype(np.float32))
    for name in ("precision", "recall", "density", "coverage"):
        assert others[name] == pytest.approx(getattr(expected, name)), name
    assert (others["num_real"], others["num_fake"]) == (SHIPPED - count, count)

    drawn = min(num_samples, SHIPPED)
    assert reconstruction["num_samples"] == drawn
    if drawn == SHIPPED:  # all of them: no draws
        direct = distance(decoded, real)
        assert reconstruction["frechet_distance"] == pytest.approx(direct, rel=1e-5)
        assert reconstruction["draws"] == 1 and reconstruction["frechet_distance_std"] is None
        assert reconstruction["num_fake"] == SHIPPED
    else:
        distances = [distance(decoded[order[:drawn]], real) for order in halves]
        assert reconstruction["frechet_distance"] == pytest.approx(np.mean(distances), rel=1e-5)
        spread = pytest.approx(np.std(distances, ddof=1), rel=1e-4)
        assert reconstruction["frechet_distance_std"] == spread


def test_a_prompt_with_several_images_changes_nothing_for_the_others(captioned, pixels):
    conditions = captioned.reals.conditions.clone()
    conditions[:3] = conditions[3]
    several = TensorReals(captioned.reals.images, conditions)
    bundle = replace(captioned, reals=several, fingerprint="several")
    _, others = floors(bundle, [reference(bundle, pixels)], 60)
    assert others["num_samples"] == SHIPPED // 2
    assert others["reference"] == f"{SHIPPED // 2} other training images"


def test_classes_are_strata_and_prompts_are_none():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 5, 200)
    assert strata(classes) is classes
    prompts = rng.permutation(200)
    assert not strata(prompts).any()
    assert len(draw(prompts, 300, rng)) == 200
    # Ranks within classes, as a loop counts them.
    order, seen, places = np.random.default_rng(3).permutation(200), {}, {}
    for index in order:
        label = int(classes[index])
        places[index] = seen[label] = seen.get(label, -1) + 1
    chosen = draw(classes, 40, np.random.default_rng(3))
    assert max(places[index] for index in chosen) == 7 and len(set(chosen.tolist())) == 40


def test_an_evaluation_is_of_the_first_prompts(captioned_folder, captioned, pixels, monkeypatch,
                                               tmp_path):  # fmt: skip
    monkeypatch.setattr(eval.judges.references, "independent_judge", lambda *_, **__: pixels)
    arguments = Eval(
        policies=("heuristic",), out=tmp_path / "out", bundle=str(captioned_folder), num_steps=2,
        num_samples=25, metrics=True, threads=1, dtype="float32", progress=False,
    )  # fmt: skip
    table, pictures = run(arguments)
    policy = ScheduledPolicy(heuristic_schedule(2))
    images = generate(captioned, policy, range(25), 2, NAT_EVAL.seed_of(0))
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    for row, judge in zip(rows, (bundle_judge(captioned), pixels), strict=True):
        real, _ = seen_by(judge, captioned)
        fake = judge.embeddings(images)
        expected = sample_metrics(real.astype(np.float32), fake)
        assert row["judge"] == judge.name and row["num_real"] == SHIPPED
        assert row["precision"] == pytest.approx(expected.precision)
        assert row["coverage"] == pytest.approx(expected.coverage)
    samples = GaussianStatistics.from_embeddings(pixels.embeddings(images))
    direct = frechet_distance(samples, reference(captioned, pixels).statistics)
    assert rows[1]["frechet_distance"] == pytest.approx(direct, rel=1e-5)
    own = captioned.yardstick.judge
    right = float((own(images).argmax(dim=1) == torch.arange(25)).float().mean())
    assert rows[0]["class_accuracy"] == pytest.approx(right)
    assert "References: captioned-judge, all 60 training images; pixels, 48 training" in table
    assert all(path.is_file() for path in pictures) and "(real images, against others)" in table


def test_the_demo_names_some_of_many_prompts(captioned):
    said = what_it_draws(captioned)
    assert said.startswith("images of 60 prompts (a b c, aa b c, ") and said.endswith(" ...)")
    assert said.count(", ") == 12


def test_a_study_is_of_a_bundle_of_prompts_as_of_one_of_classes(
    captioned_folder, tmp_path, small_preset, monkeypatch
):
    discriminator = DiscriminatorConfig(trunk="scratch", widths=(8,), batch_size=16)
    changes = {"bundle": PRESETS["custom"][1].bundle, "discriminator": discriminator}
    small = replace(PRESETS["digits"][1], **changes)
    monkeypatch.setitem(PRESETS, "custom", ("", small))
    arguments = Suite(
        tmp_path / "out", bundle=str(captioned_folder), methods=("grid", "adaptive"),
        num_steps=(2,), budget=128, num_samples=40, seeds=(0,), judges=(), threads=1,
        dtype="float32", progress=False,
    )  # fmt: skip
    report = suite(arguments)
    assert "- adaptive against the best shared schedule, " in report
    rows = json.loads((tmp_path / "out" / "T2" / "results.json").read_text())["rows"]
    assert [row["policy"] for row in rows] == ["heuristic", "grid", "adaptive"]
    assert "(tokenizer's reconstructions)" in report and "**undecided (one seed)**" in report


def test_other_prompts_have_the_references_and_floors_of_their_own_images(
    captioned, pixels, tmp_path
):
    """Eleven images, which are numbered in each table from 0: one cache, and not taken for others.

    Of three images there are no halves that have a distance.
    """
    names = [captioned.conditions.names[number] for number in captioned.reals.conditions.tolist()]
    told = set()
    for first in (0, 20):
        bundle = captioned.with_prompts(["b bb bbb", *names[first : first + 11]], replace=True)
        images = captioned.reals.images[first : first + 11]
        assert torch.equal(bundle.require("reals").images, images)
        judged = reference(bundle, pixels, cache=tmp_path)
        expected = pixels.embeddings(images.float() / 255).double().numpy()
        np.testing.assert_allclose(judged.statistics.mean, expected.mean(axis=0))
        rows = floors(bundle, [judged], 13, cache=tmp_path)
        assert rows[1]["num_samples"] == 5 and rows[1]["reference"] == "6 other training images"
        told |= {row["prompts"] for row in rows}
    assert len(told) == 2
    few = captioned.with_prompts(names[:3], replace=True)
    assert floors(few, [reference(few, pixels)], 13) == []


def test_floors_of_several_tables_are_kept_beside_each_other(captioned, pixels, tmp_path):
    names = [captioned.conditions.names[number] for number in captioned.reals.conditions.tolist()]
    tables = [captioned.with_prompts(chosen, replace=True) for chosen in (names[:9], names[9:20])]
    for bundle in (*tables, tables[0]):
        evaluation = evaluate(
            bundle, {"heuristic": heuristic_schedule(1)}, num_steps=1, num_samples=13,
            judges=[pixels], out=tmp_path, pictures=False, progress=False,
        )  # fmt: skip
        (direct, _) = floors(bundle, [reference(bundle, pixels)], 13)
        (found, _) = evaluation.floors
        assert found["frechet_distance"] == pytest.approx(direct["frechet_distance"])
    kept = json.loads((tmp_path / "results.json").read_text())["floors"]
    assert len(kept) == 4 and len({row["prompts"] for row in kept}) == 2
