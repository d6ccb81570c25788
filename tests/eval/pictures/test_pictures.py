"""Pictures of an evaluation: whose they are, whatever classes and policies are called."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from agents.sharing.names import named_policy
from eval.commands.arguments import Eval
from eval.commands.nat_eval import run
from eval.pictures import samples
from eval.pictures.album import Album, draw_policies, draw_trainings
from nat_env.frozen.conditions import Conditions
from nat_env.generation import generate
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule
from nat_env.seeds import NAT_EVAL

FORMULAS = (r"$\oops{$", "$x$")
"""What matplotlib reads as such, one of them broken."""


def test_classes_bundles_and_policies_may_be_called_anything(tmp_path, digits, make_run):
    names = tuple(FORMULAS[index % 2] + str(index) for index in range(10))
    bundle = replace(digits, name=FORMULAS[0], conditions=Conditions(names))
    policies = {
        FORMULAS[0]: named_policy("heuristic", bundle, 2)[1],
        FORMULAS[1]: named_policy(str(make_run()), bundle, 2)[1],
    }
    album = Album(tmp_path / "out", bundle, 2, seed=0, policies=FORMULAS)
    actions = {
        name: {"mean": [0.5, 0.5], "std": [0.0, 0.0]}
        for name in ("remask_ratio", "sampling_temperature", "remask_temperature", "guidance_scale")
    }
    row = {"judge": "j", "seed": 0, "actions": actions, "features_shuffled": False}
    rows = [row | {"policy": name} for name in FORMULAS]
    pictures = draw_policies(album, policies, rows)
    assert len(pictures) == 3
    for path in pictures:
        with Image.open(path) as picture:
            assert np.asarray(picture).std() > 10


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["runs/demo/policy", "not-adaptive", "heuristic(lambda=8, k=1.5, tau1=0.8)"],
         ["runs-demo-policy", "not-adaptive", "heuristic-lambda-8-k-1.5-tau1-0.8"]),
        (["runs/a_b", "runs/a-b"], ["runs-a_b", "runs-a-b"]),
        (["größer", "策略", "τ"], ["größer", "策略", "τ"]),
        (["a/b", "a b", "a-b-2", "A-b"], ["a-b", "a-b-2", "a-b-2-2", "A-b-3"]),
        (["??", "!", "2"], ["", "2", "2-2"]),
    ],
)  # fmt: skip
def test_every_policy_has_pictures_of_its_own(tmp_path, digits, names, files):
    album = Album(tmp_path, digits, 4, 0, names)
    found = [album.path("samples", name).name for name in names]
    assert found == ["_".join(filter(None, ["samples_T4", file])) + ".png" for file in files]
    assert album.path("quantities").name == "quantities_T4.png"


def test_no_picture_of_an_evaluation_is_of_two_policies(tmp_path, make_run):
    """The audit's: two folders that differ by a character which a file's name left out."""
    learned = [str(make_run("a_b")), str(make_run("a-b", weights=1))]
    arguments = Eval(
        policies=("heuristic", *learned),
        out=tmp_path / "out",
        num_steps=2,
        num_samples=40,
        judges=(),
        threads=1,
        dtype="float32",
        progress=False,
    )
    _, pictures = run(arguments)
    assert len(set(pictures)) == len(pictures) == 6
    assert set(pictures) == set(arguments.out.glob("*.png"))


def test_a_grid_shows_the_evaluations_own_samples_and_draws_no_others(
    tmp_path, digits, monkeypatch
):
    grids, drawn = [], []
    grid, decode = samples.image_grid, digits.tokenizer.decode

    def shown(images, *others, **options):
        grids.append(images)
        return grid(images, *others, **options)

    def decoded(ids):
        drawn.append(len(ids))
        return decode(ids)

    monkeypatch.setattr(samples, "image_grid", shown)
    monkeypatch.setattr(digits.tokenizer, "decode", decoded)
    policy = ScheduledPolicy(heuristic_schedule(2))
    samples.save_sample_grids(
        tmp_path / "a.png", digits, {"a": policy}, 2, seed=1, per_class=4, max_classes=3
    )
    assert sum(drawn) == 12
    every = generate(digits, policy, [*range(10)] * 4, 2, NAT_EVAL.seed_of(1))
    for row, label in enumerate(range(3)):  # a row is a class, from left to right as they come
        torch.testing.assert_close(grids[0][4 * row : 4 * row + 4], every[label::10])


def test_a_training_that_was_never_evaluated_has_no_picture(digits, tmp_path):
    (tmp_path / "run").mkdir()
    results = {"history": [], "judge": None, "num_samples": 50}
    (tmp_path / "run" / "results.json").write_text(json.dumps(results))
    album = Album(tmp_path, digits, 4, 0, ["a"])
    assert draw_trainings(album, {"a": str(tmp_path / "run")}) == []
