"""Bundles of the former format: the same models, refused when damaged."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nat_env import ScheduledPolicy, generate, heuristic_schedule, load_bundle
from nat_env.bundles.format import fingerprint
from nat_env.bundles.loading import bundle_folder
from nat_env.convert.format_1 import convert_format_1
from nat_env.frozen.conditions import balanced_conditions
from nat_env.storage.files import sha256


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


@pytest.fixture
def old(bundle, tmp_path):
    """`digits` as format 1 had it."""
    folder, new = tmp_path / "old", bundle_folder("digits")
    shutil.copytree(new / "tokenizer", folder / "tokenizer")
    described = json.loads((new / "bundle.json").read_text())
    transformer = described["transformer"]["config"]
    height, width = transformer.pop("grid")
    for part, name in (("transformer", "transformer"), ("judge", "judge"), ("trunk", "features")):
        weights = load_file(new / part / "model.safetensors")
        weights = {k.replace("layers.", "trunk."): v for k, v in weights.items()}
        save_file(weights, folder / f"{name}.safetensors")
    shutil.copy(new / "statistics.safetensors", folder)
    (folder / "tokenizer" / "tokenizer.json").write_text(
        json.dumps(described["tokenizer"]["config"])
    )
    reals = bundle.reals
    save_file(
        {"images": reals.images, "labels": reals.conditions, "ids": reals.ids.int()},
        folder / "real.safetensors",
    )
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    description = {
        "format": 1,
        "name": "digits",
        "class_names": described["conditions"],
        "transformer": transformer | {"num_tokens": height * width},
        "judge": described["judge"]["config"],
        "features": described["trunk"]["config"],
        "training": described["training"],
        "quality": described["quality"],
        "files": {p.relative_to(folder).as_posix(): sha256(p) for p in files},
    }
    (folder / "bundle.json").write_text(json.dumps(description))
    return folder


def test_the_new_bundle_decodes_to_the_same_images(bundle, old, tmp_path):
    hashes = json.loads((old / "bundle.json").read_text())["files"]
    convert_format_1(old, tmp_path / "new")
    new = load_bundle(tmp_path / "new", "float32")
    assert new.fingerprint == fingerprint(hashes)  # runs of the old one are of the new one
    assert (new.name, new.judge_name) == ("digits", "digits-judge")
    assert new.conditions.names == bundle.conditions.names
    assert (new.training, new.quality) == (bundle.training, bundle.quality)
    for name in ("images", "conditions", "ids"):
        assert torch.equal(getattr(new.reals, name), getattr(bundle.reals, name))
    left, right = new.yardstick.statistics, bundle.yardstick.statistics
    np.testing.assert_array_equal(left.covariance, right.covariance)
    policy, conditions = ScheduledPolicy(heuristic_schedule(4)), balanced_conditions(20, 10)
    images = [generate(b, policy, conditions, 4, seed=3) for b in (bundle, new)]
    assert torch.equal(*images)
    scores = [b.yardstick.judge(images[0]) for b in (bundle, new)]
    assert torch.equal(*scores)
    assert torch.equal(*(b.trunk(images[0]) for b in (bundle, new)))


def test_an_old_bundle_says_how_to_convert_it(old):
    with pytest.raises(ValueError, match=r"^bundle: format 1 .*nat-convert bundle OLD --out NEW"):
        load_bundle(old)


def test_what_is_damaged_or_new_or_the_same_folder_is_refused(old, tmp_path):
    with pytest.raises(ValueError, match=r"^out: .*allowed is a folder apart from old"):
        convert_format_1(old, old)
    with pytest.raises(ValueError, match=r"^bundle: format 2 .*allowed is 1"):
        convert_format_1(bundle_folder("digits"), tmp_path / "new")
    data = (old / "judge.safetensors").read_bytes()
    (old / "judge.safetensors").write_bytes(data[:-1])
    with pytest.raises(ValueError, match=r"^bundle: .*judge.safetensors is truncated"):
        convert_format_1(old, tmp_path / "new")
    (old / "judge.safetensors").unlink()
    with pytest.raises(ValueError, match=r"^bundle: .*judge.safetensors is missing"):
        convert_format_1(old, tmp_path / "new")
    assert not (tmp_path / "new").exists()
