"""The alignment score against a loop, on samples, real images and reconstructions."""

import dataclasses

import numpy as np
import pytest
import torch

from eval.commands.arguments import Eval
from eval.commands.nat_eval import run
from eval.evaluation.floors import floors
from eval.evaluation.measure import measure
from eval.evaluation.rows import Results
from eval.judges.judge import bundle_judge
from eval.judges.references import reference
from eval.metrics.alignment import AMONG, aligned, rivals
from nat_env import ScheduledPolicy, generate, heuristic_schedule, load_bundle
from nat_env.bundles.reals import TensorReals
from nat_env.frozen.conditions import balanced_conditions

HEURISTIC = ScheduledPolicy(heuristic_schedule(1))


@pytest.mark.parametrize("num_conditions", [2, 50, 100, 101, 3800])
def test_rivals_are_others_each_once_and_always_the_same(num_conditions):
    for condition in (0, 1, num_conditions - 1):
        found = rivals(condition, num_conditions)
        assert len(set(found)) == len(found) == min(AMONG, num_conditions) - 1
        assert condition not in found
        assert set(found) <= set(range(num_conditions))
        assert found == rivals(condition, num_conditions)


def test_rivals_are_drawn_from_all():
    drawn = np.bincount(np.concatenate([rivals(c, 400) for c in range(400)]), minlength=400)
    assert drawn.min() > 50 and drawn.max() < 150  # 99 of 399 each
    assert rivals(0, 400) != rivals(1, 400)


def test_aligned_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    scores = rng.integers(1000, size=(60, 300)).astype(np.float32)  # some are equal
    conditions = rng.integers(300, size=60)
    scores[np.arange(0, 60, 2), conditions[::2]] = 985
    expected = []
    for row, condition in zip(scores, conditions, strict=True):
        best = max(row[other] for other in rivals(int(condition), 300))
        expected.append(bool(row[condition] > best))
    found = aligned(torch.from_numpy(scores), torch.from_numpy(conditions))
    assert found.tolist() == expected
    assert 0 < sum(expected) < 60


def test_what_knows_nothing_scores_one_in_a_hundred():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(20_000, 150, generator=generator)
    share = aligned(scores, torch.arange(20_000) % 150).float().mean()
    assert abs(float(share) - 1 / AMONG) < 4 * (0.01 * 0.99 / 20_000) ** 0.5
    assert not aligned(torch.ones(4, 150), torch.arange(4)).any()  # nor what calls all alike


def test_bad_scores_are_refused():
    with pytest.raises(ValueError, match=r"^conditions: got 1, allowed for an alignment are 2"):
        aligned(torch.ones(2, 1), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"^scores: got some that are not finite"):
        aligned(torch.tensor([[1.0, torch.nan]]), torch.tensor([0]))


# Of a bundle


@pytest.fixture
def bundle(matched_folder):
    return load_bundle(matched_folder)


def share_by_hand(bundle, images, conditions):
    """The share by a loop: nearer to its own prompt than to all others (there are few)."""
    scores = bundle.require("aligner")(images).numpy()
    right = 0
    for row, condition in zip(scores, conditions, strict=True):
        right += all(row[condition] > row[other] for other in range(len(row)) if other != condition)
    return right / len(images)


def test_of_samples_it_is_that_of_generates_images(toy_text, bundle):
    wide = bundle.with_prompts(["b", "aa", "c c c"])
    conditions = balanced_conditions(40, 5)
    images = generate(wide, HEURISTIC, conditions, 1, 0, 16)
    shares = set()
    for seed in range(6):
        aligner = toy_text.matcher(seed, (16, 16)).with_conditions(wide.conditions)
        wide = dataclasses.replace(wide, aligner=aligner)
        found = measure(wide, HEURISTIC, 1, 40, 0, [], batch_size=16)
        assert found.alignment == share_by_hand(wide, images, conditions.tolist())
        shares.add(found.alignment)
    assert len(shares) > 1
    logits = wide.yardstick.judge(images)
    assert found.class_accuracy == float((logits.argmax(dim=1) == conditions).double().mean())
    without = dataclasses.replace(wide, aligner=None)
    assert measure(without, HEURISTIC, 1, 40, 0, []).alignment is None


def test_floors_are_those_of_real_images_and_of_reconstructions(bundle):
    judged = reference(bundle, bundle_judge(bundle))
    rows = {row["floor"]: row for row in floors(bundle, [judged], 64)}
    real = bundle.reals.images.float() / 255
    conditions = bundle.reals.conditions.tolist()
    expected = share_by_hand(bundle, real, conditions)
    assert rows["real others"]["alignment"] == expected
    decoded = bundle.tokenizer.decode(bundle.tokenizer.encode(real))
    assert rows["reconstruction"]["alignment"] == share_by_hand(bundle, decoded, conditions)
    assert {row["alignment_samples"] for row in rows.values()} == {64}
    assert 0 < expected < 1
    # Halves are of all images, and not of each prompt's.
    assert rows["real others"]["num_samples"] == 32


def test_prompts_with_an_image_each_have_floors_of_two_halves(bundle):
    names = [f"{'a' * (n % 7 + 1)} {'b' * (n // 7 + 1)}" for n in range(40)]
    wide = bundle.with_prompts(names, replace=True)
    reals = TensorReals(bundle.reals.images[:40], torch.arange(40))
    wide = dataclasses.replace(wide, reals=reals)
    judged = reference(wide, bundle_judge(wide), metrics=True)
    assert len(judged.embeddings) == 40
    rows = {row["floor"]: row for row in floors(wide, [judged], 30)}
    assert rows["real others"]["num_samples"] == 20
    assert rows["real others"]["reference"] == "20 other training images"
    assert rows["reconstruction"]["num_samples"] == 30
    assert all(np.isfinite(row["frechet_distance"]) for row in rows.values())


def test_nat_eval_tells_it_in_rows_and_table(matched_folder, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = Eval(
        policies=("heuristic",), out=tmp_path / "eval", bundle=str(matched_folder), num_steps=1,
        num_samples=40, judges=(), pictures=False, seeds=(0, 1),
    )  # fmt: skip
    table, _ = run(arguments)
    results = Results(tmp_path / "eval" / "results.json")
    shares = []
    for seed in (0, 1):
        images = generate(bundle, HEURISTIC, balanced_conditions(40, 2), 1, seed * 10**6)
        shares.append(share_by_hand(bundle, images, balanced_conditions(40, 2).tolist()))
    assert [row["alignment"] for row in results.rows] == shares
    mean, spread = 100 * np.mean(shares), 100 * np.std(shares, ddof=1)
    assert f"| heuristic | 1 | 40 | {mean:.1f} ± {spread:.1f} % |" in table
    floor = next(f for f in results.floors if f["floor"] == "real others")
    assert f"| (real images) | | 40 | {100 * floor['alignment']:.1f} % |" in table
    assert "(tokenizer's reconstructions) | | 40 |" in table
    # Other captions: judge and aligner know them, floors are of the images of those that stay.
    captions = tmp_path / "some.txt"
    captions.write_text("b\nccc d\n")
    table, _ = run(dataclasses.replace(arguments, prompts=captions, out=tmp_path / "some"))
    found = Results(tmp_path / "some" / "results.json").floors
    assert [floor["num_samples"] for floor in found] == [32, 16]
    # Of none of them no images stay.
    captions = tmp_path / "captions.txt"
    captions.write_text("b\naa\nc c c\n")
    table, _ = run(dataclasses.replace(arguments, prompts=captions, out=tmp_path / "others"))
    results = Results(tmp_path / "others" / "results.json")
    assert not results.floors and "| heuristic | 1 | 1.00 | matched-judge, N = 40 |" in table
    other = bundle.with_prompts(["b", "aa", "c c c"], replace=True)
    images = generate(other, HEURISTIC, balanced_conditions(40, 3), 1, 0)
    assert results.rows[0]["alignment"] == share_by_hand(other, images, [i % 3 for i in range(40)])
