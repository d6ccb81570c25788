"""Pictures of an evaluation: whose they are, whatever classes and policies are called."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from agents.sharing.names import named_policy
from eval.commands.arguments import Eval
from eval.commands.nat_eval import run
from eval.pictures.album import Album, draw_policies
from nat_env.frozen.conditions import Conditions

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
        second_judge=False,
        threads=1,
        dtype="float32",
        progress=False,
    )
    _, pictures = run(arguments)
    assert len(set(pictures)) == len(pictures) == 6
    assert set(pictures) == set(arguments.out.glob("*.png"))
