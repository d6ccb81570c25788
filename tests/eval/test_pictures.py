"""Pictures of an evaluation: whose they are, whatever classes and policies are called."""

from dataclasses import replace

import numpy as np
from PIL import Image

from eval.pictures import Album, draw_policies
from eval.policies import named_policy

FORMULAS = (r"$\oops{$", "$x$")
"""What matplotlib reads as such, one of them broken."""


def test_classes_bundles_and_policies_may_be_called_anything(tmp_path, digits, make_run):
    names = tuple(FORMULAS[index % 2] + str(index) for index in range(10))
    bundle = replace(digits, name=FORMULAS[0], class_names=names)
    policies = {
        FORMULAS[0]: named_policy("heuristic", bundle, 2)[1],
        FORMULAS[1]: named_policy(str(make_run()), bundle, 2)[1],
    }
    album = Album(tmp_path / "out", bundle, 2, seed=0)
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
