"""`evaluate`: one call from policies to a table, rows and pictures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from eval import evaluate
from eval.evaluation.measure import measure
from eval.judges.judge import Judge, bundle_judge
from eval.judges.references import reference
from nat_env.bundles.bundle import Bundle
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule


def half(features, timestep):
    """A policy that nothing here knows."""
    return torch.tensor([0.5, 1.0, 1.0, 0.0], device=features.device).repeat(len(features), 1)


def test_policies_of_all_kinds_are_compared(digits, make_run, tmp_path):
    policies = {
        "papers'": heuristic_schedule(2),
        "named": "heuristic(2, 0, 1)",
        "half": half,
        "run": make_run(),
    }
    judge = bundle_judge(digits)
    found = evaluate(
        digits, policies, num_samples=40, seeds=(1, 2), judges=[judge], out=tmp_path / "out"
    )
    assert [(r["policy"], r["seed"]) for r in found.rows] == [
        (name, seed) for name in policies for seed in (1, 2)
    ]
    direct = measure(
        digits, ScheduledPolicy(heuristic_schedule(2)), 2, 40, 2, [reference(digits, judge)]
    )
    distance = direct.frechet_distances["digits-judge"]
    assert found.rows[1]["frechet_distance"] == pytest.approx(distance, rel=1e-6)
    assert str(found) == found._repr_markdown_() == found.table
    assert all(f"| {name} | 2 | 2.00 | digits-judge, N = 40 |" in found.table for name in policies)
    names = {"distances_T2", "quantities_T2", "steps_T2_half", "steps_T2_run"}
    assert set(found.pictures) == names | {f"samples_T2_{n}" for n in ("named", "half", "run")}
    assert all(isinstance(picture, Image.Image) for picture in found.pictures.values())
    written = {path.name for path in found.files}
    assert written == {f"{n}.png" for n in found.pictures} | {"table.md", "results.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored["rows"] == found.rows


def test_without_a_folder_nothing_stays(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = evaluate(digits, {"h": "heuristic"}, 1, 40, judges=[bundle_judge(digits)])
    assert found.files == [] and not list(tmp_path.iterdir())
    assert found.pictures["samples_T1_h"].size > (100, 100)


def test_a_policy_that_may_have_changed_is_evaluated_again(digits, tmp_path):
    folder, judges = tmp_path / "out", [bundle_judge(digits)]
    scale = torch.tensor([0.5, 1.0, 1.0, 0.0])
    policies = {"own": lambda features, _: scale.repeat(len(features), 1)}
    runs = []
    for temperature in (1.0, 3.0):
        scale[1] = temperature
        found = evaluate(digits, policies, 2, 40, judges=judges, out=folder, pictures=False)
        runs.append(found.rows[0]["frechet_distance"])
    assert runs[1] > runs[0]


def test_another_judge_or_bundle_of_the_same_name_is_measured_again(digits, tmp_path, monkeypatch):
    """Of what no file stands for nothing is taken from before, be it of a folder or of a cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = {"judges": [], "out": tmp_path / "out", "pictures": False}

    def measured(bundle, judge):
        found = evaluate(bundle, {"h": "heuristic"}, 2, 40, **options | {"judges": [judge]})
        distances = [row["frechet_distance"] for row in (found.rows[-1], found.floors[-1])]
        return np.array(distances)

    yardstick, scales = digits.require("yardstick"), (1.0, 3.0)
    mine = [
        Judge("mine", lambda images, scale=scale: scale * images.flatten(1)[:, 20:24])
        for scale in scales
    ]
    first, second = (measured(digits, judge) for judge in mine)
    np.testing.assert_allclose(second, 9 * first, rtol=1e-4)
    assert measured(digits, mine[1]).tolist() == second.tolist()  # the same one: it was there
    parts = {name: getattr(digits, name) for name in ("conditions", "nat", "tokenizer", "reals")}
    other, another = (Bundle("digits", **parts, yardstick=yardstick) for _ in range(2))
    assert len({bundle.fingerprint for bundle in (digits, other, another)}) == 3
    assert digits.is_stored and not other.is_stored
    measured(other, bundle_judge(other))
    kept = [path.name for path in (tmp_path / "cache").rglob("*.safetensors")]
    assert kept and all(name.startswith(digits.fingerprint[:16]) for name in kept)


def test_what_is_given_twice_counts_once(digits, tmp_path):
    judges = [bundle_judge(digits)] * 2
    found = evaluate(digits, {"h": "heuristic"}, 2, 40, seeds=(3, 3), judges=judges, pictures=False)
    assert [row["seed"] for row in found.rows] == [3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policies": {}}, "policies and seeds: got"),
        ({"seeds": ()}, "policies and seeds: got"),
        ({"seeds": (-1,)}, "seed: got -1"),
        ({"num_samples": 32}, "num_samples: got 32, allowed is > 32"),
        ({"num_samples": 1}, "num_samples: got 1,"),
        ({"num_steps": 0}, "num_steps: got 0, allowed are integers >= 1"),
        ({"num_steps": 3}, "policies: 'a' is for num_steps = 2, got 3"),
        ({"policies": {"a": heuristic_schedule(2), "b": heuristic_schedule(4)}}, "'b' is for"),
        ({"policies": {"a": "nonsense"}}, "got 'nonsense', allowed are"),
        ({"bundle": "nonsense"}, "bundle: got 'nonsense'"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(digits, tmp_path, change, message):
    arguments = {"bundle": digits, "policies": {"a": heuristic_schedule(2)}, "num_samples": 40}
    arguments |= {"judges": [bundle_judge(digits)], "out": tmp_path / "out"}
    with pytest.raises(ValueError, match=message):
        evaluate(**arguments | change)
    assert not (tmp_path / "out" / "results.json").exists()
