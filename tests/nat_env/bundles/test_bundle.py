"""Bundles: shared once loaded, refused when damaged or ill-fitting, written whole or not at all."""

import copy
import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import nat_env
import nat_env.bundles.bundle
import nat_env.bundles.writer
from nat_env import load_bundle, shipped_bundles
from nat_env.bundles.bundle import balanced_conditions, bundle_folder, resolve_dtype
from nat_env.bundles.statistics import GaussianStatistics
from nat_env.bundles.writer import save_bundle
from nat_env.models.classifier import Classifier, ClassifierConfig, features_of
from nat_env.models.uvit import UViT
from nat_env.storage.files import sha256
from nat_env.storage.state import load_state, save_state

ASSETS = Path(nat_env.__file__).parent / "assets"
FILES = (
    "transformer.safetensors",
    "judge.safetensors",
    "features.safetensors",
    "statistics.safetensors",
    "real.safetensors",
    "tokenizer/config.json",
    "tokenizer/diffusion_pytorch_model.safetensors",
    "tokenizer/tokenizer.json",
)


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped bundle that a test may damage."""
    return shutil.copytree(bundle_folder("digits"), tmp_path / "mine")


def parts_of(bundle):
    """What `save_bundle` writes."""
    return {
        "name": bundle.name,
        "class_names": bundle.class_names,
        "tokenizer": bundle.tokenizer,
        "transformer": bundle.nat.transformer,
        "judge": bundle.judge,
        "features": bundle.features,
        "statistics": bundle.statistics,
        "real_images": bundle.real_images,
        "real_labels": bundle.real_labels,
        "real_ids": bundle.real_ids,
        "training": bundle.training,
        "quality": bundle.quality,
    }


def edit(folder, change):
    path = folder / "bundle.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def load(folder):
    return load_bundle(folder, "float32")


# What ships


def test_digits_ship():
    assert "digits" in shipped_bundles()
    assert bundle_folder("digits") == ASSETS / "digits"


@pytest.mark.parametrize("name", shipped_bundles())
def test_a_shipped_bundle_is_small_and_lists_all_its_files(name):
    files = [p for p in (ASSETS / name).rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 30 * 2**20
    listed = json.loads((ASSETS / name / "bundle.json").read_text())["files"]
    found = {p.relative_to(ASSETS / name).as_posix(): p for p in files}
    assert set(found) - {"bundle.json"} == set(listed)
    for file, digest in listed.items():
        assert sha256(found[file]) == digest


def is_pickle(path):
    """By its first bytes: a pickle, a zip (torch.save, numpy's npz) or a numpy file."""
    head = path.read_bytes()[:8]
    if head.startswith((b"PK\x03\x04", b"\x93NUMPY", b"\x1f\x8b", b"BZh")):
        return True
    return len(head) > 1 and head[0] == 0x80 and head[1] <= 5


def test_nothing_that_ships_is_a_pickle(tmp_path):
    for path in (p for p in ASSETS.rglob("*") if p.is_file()):
        assert path.suffix in {".json", ".safetensors"}, path
        assert not is_pickle(path), path
        head = path.read_bytes()[:9]
        if path.suffix == ".safetensors":
            assert int.from_bytes(head[:8], "little") < path.stat().st_size
            assert head[8:9] == b"{"
        else:
            json.loads(path.read_text())
    torch.save({"a": torch.ones(2)}, tmp_path / "planted.safetensors")
    assert is_pickle(tmp_path / "planted.safetensors")
    for protocol in range(2, 6):
        (tmp_path / "planted.json").write_bytes(pickle.dumps([1, 2], protocol))
        assert is_pickle(tmp_path / "planted.json")


def test_parts_fit_together(bundle):
    count = len(bundle.real_images)
    assert bundle.num_classes == 10
    assert bundle.grid == bundle.tokenizer.config.grid == (4, 4)
    assert bundle.num_tokens == 16
    assert bundle.nat.mask_id == bundle.tokenizer.config.codebook_size == 64
    assert bundle.nat.null_condition == 10
    assert bundle.feature_size == 64
    assert bundle.real_images.dtype == torch.uint8
    assert bundle.real_images.shape == (count, 1, 8, 8)
    assert bundle.real_labels.shape == (count,)
    assert bundle.real_ids.shape == (count, 16)
    assert 0 <= bundle.real_ids.min() <= bundle.real_ids.max() < 64
    assert not any(p.requires_grad for p in bundle.nat.transformer.parameters())
    assert not any(p.requires_grad for p in bundle.judge.parameters())
    assert not any(p.requires_grad for p in bundle.tokenizer.parameters())
    assert not (bundle.nat.transformer.training or bundle.judge.training)
    assert not bundle.tokenizer.training


def test_stored_tokens_and_statistics_are_those_of_the_images(bundle):
    images = bundle.real_images.float() / 255
    agreement = (bundle.tokenizer.encode(images) == bundle.real_ids).float().mean()
    assert agreement > 0.999  # but for ties that round the other way on another machine
    features = features_of(bundle.judge, bundle.real_images).double().numpy()
    assert bundle.statistics.count == len(images)
    np.testing.assert_allclose(bundle.statistics.mean, features.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(bundle.statistics.covariance, np.cov(features.T), atol=1e-4)


# Loading


def test_loaded_once_and_shared(folder, monkeypatch):
    loaded = []
    original = nat_env.bundles.bundle.load_file
    monkeypatch.setattr(
        nat_env.bundles.bundle, "load_file", lambda p: loaded.append(p) or original(p)
    )
    first = load(folder)
    assert len(loaded) == 5
    assert load(str(folder)) is first
    assert load(folder / "tokenizer" / "..") is first
    monkeypatch.chdir(folder.parent)
    assert load("mine") is first
    assert len(loaded) == 5
    assert first.tokenizer is load(folder).tokenizer


def test_a_shipped_name_wins_over_a_folder(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert bundle_folder("digits") == ASSETS / "digits"


@pytest.mark.parametrize("name", ["nonesuch", "", "/nonesuch/path", "tokenizer"])
def test_unknown_bundles_are_refused_with_what_there_is(name):
    with pytest.raises(ValueError, match=r"^bundle: got .*digits"):
        load_bundle(name)


def test_a_folder_without_a_description_is_no_bundle(folder):
    (folder / "bundle.json").unlink()
    with pytest.raises(ValueError, match=r"^bundle: got "):
        load(folder)


@pytest.mark.parametrize("dtype", ["float16", "", "double"])
def test_unknown_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match=r"^dtype: got "):
        load_bundle("digits", dtype)


def test_dtypes_by_name():
    assert resolve_dtype("float32") is torch.float32
    assert resolve_dtype("bfloat16") is torch.bfloat16
    assert resolve_dtype("auto") in (torch.float32, torch.bfloat16)


def test_bfloat16_only_where_the_hardware_multiplies_it(monkeypatch):
    for able, expected in [
        ({}, torch.float32),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able, raising=False)
        assert resolve_dtype("auto") is expected


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"^bundle: .*{name}.* missing"):
        load(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "emptied", "one bit"])
def test_a_damaged_file_is_named(folder, name, damage):
    path = folder / name
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        del data[-1]
    elif damage == "emptied":
        data.clear()
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"^bundle: .*{name}"):
        load(folder)


@pytest.mark.parametrize("part", ["judge", "features", "transformer"])
def test_weights_that_are_not_finite_are_refused(bundle, tmp_path, part):
    parts = parts_of(bundle)
    parts[part] = copy.deepcopy(parts[part])
    name, values = next(iter(parts[part].named_parameters()))
    values.data.view(-1)[-1] = float("nan")
    save_bundle(tmp_path / "new", **parts)
    with pytest.raises(ValueError, match=rf"^bundle: {name} in .*is not finite; make the bundle"):
        load(tmp_path / "new")


def test_a_file_of_another_bundle_is_named(folder, bundle):
    judge = Classifier(bundle.judge.config)
    nat_env.bundles.writer.save_file(judge.state_dict(), folder / "judge.safetensors")
    with pytest.raises(ValueError, match=r"^bundle: .*judge.safetensors"):
        load(folder)


@pytest.mark.parametrize("text", ["", "{", "not json", "[]", "3", "null", "{}", '{"files": 3}'])
def test_a_damaged_description_is_refused(folder, text):
    (folder / "bundle.json").write_text(text)
    with pytest.raises(ValueError, match=r"^bundle: .*mine"):
        load(folder)


@pytest.mark.parametrize("length", [1, 10, 400, -3])
def test_a_truncated_description_is_refused(folder, length):
    data = (folder / "bundle.json").read_bytes()
    (folder / "bundle.json").write_bytes(data[:length])
    with pytest.raises(ValueError, match=r"^bundle: .*bundle.json"):
        load(folder)


@pytest.mark.parametrize(
    "key",
    [
        "format",
        "name",
        "class_names",
        "transformer",
        "judge",
        "features",
        "training",
        "quality",
        "files",
    ],
)
def test_a_description_without_one_of_its_keys_is_refused(folder, key):
    edit(folder, lambda values: values.pop(key))
    with pytest.raises(ValueError, match=r"^bundle: .*mine"):
        load(folder)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_is_refused(folder, version):
    edit(folder, lambda values: values.update(format=version))
    with pytest.raises(ValueError, match=r"^bundle: format .* allowed is 1"):
        load(folder)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("transformer", {"hidden_size": 128}),
        ("transformer", {"depth": 5}),
        ("transformer", {"depth": 1}),
        ("transformer", {"num_tokens": 49}),
        ("transformer", {"codebook_size": 256}),
        ("transformer", {"num_classes": 9}),
        ("transformer", {"unheard_of": 1}),
        ("judge", {"num_classes": 9}),
        ("judge", {"channels": 3}),
        ("judge", {"widths": [32]}),
        ("judge", {"widths": [32, 32, 32]}),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder, part, changes):
    edit(folder, lambda values: values[part].update(changes))
    with pytest.raises(ValueError, match=r"^(bundle|transformer): .*does not fit"):
        load(folder)


@pytest.mark.parametrize("names", [["only one"], [*map(str, range(9))], [*map(str, range(11))]])
def test_class_names_that_do_not_fit_are_refused(folder, names):
    edit(folder, lambda values: values.update(class_names=names))
    with pytest.raises(ValueError, match=r"^(bundle|transformer): .*does not fit"):
        load(folder)


def test_a_bundle_that_was_repaired_loads(folder):
    """A failure is not remembered."""
    data = (folder / "judge.safetensors").read_bytes()
    (folder / "judge.safetensors").write_bytes(data[:-1])
    with pytest.raises(ValueError, match=r"judge"):
        load(folder)
    (folder / "judge.safetensors").write_bytes(data)
    assert load(folder).name == "digits"


# Writing


def test_round_trip(bundle, tmp_path):
    save_bundle(tmp_path / "copy", **parts_of(bundle))
    copy = load(tmp_path / "copy")
    for name in ("name", "class_names", "training", "quality", "num_tokens", "grid"):
        assert getattr(copy, name) == getattr(bundle, name)
    for name in ("real_images", "real_labels", "real_ids"):
        assert torch.equal(getattr(copy, name), getattr(bundle, name))
        assert getattr(copy, name).dtype == getattr(bundle, name).dtype
    np.testing.assert_array_equal(copy.statistics.mean, bundle.statistics.mean)
    np.testing.assert_array_equal(copy.statistics.covariance, bundle.statistics.covariance)
    assert copy.statistics.count == bundle.statistics.count
    for left, right in [
        (copy.nat.transformer, bundle.nat.transformer),
        (copy.judge, bundle.judge),
        (copy.features, bundle.features),
        (copy.tokenizer, bundle.tokenizer),
    ]:
        assert left is not right
        assert left.state_dict().keys() == right.state_dict().keys()
        for key, value in left.state_dict().items():
            assert torch.equal(value, right.state_dict()[key])
    assert {p.suffix for p in (tmp_path / "copy").rglob("*.*")} == {".json", ".safetensors"}


def test_fingerprint_is_that_of_the_models(bundle, folder, tmp_path):
    assert load(folder).fingerprint == bundle.fingerprint
    parts = parts_of(bundle)
    judge = Classifier(bundle.judge.config)
    judge.load_state_dict(bundle.judge.state_dict())
    judge.classifier.bias.data[3] += 1e-3
    save_bundle(tmp_path / "other", **(parts | {"judge": judge}))
    save_bundle(tmp_path / "same", **(parts | {"name": "renamed"}))
    again = load(tmp_path / "same")
    save_bundle(tmp_path / "saved again", **parts_of(again))
    assert load(tmp_path / "other").fingerprint != bundle.fingerprint
    # Neither its name nor the folder that it was loaded from makes it another one.
    assert again.fingerprint == bundle.fingerprint
    assert load(tmp_path / "saved again").fingerprint == bundle.fingerprint


def test_a_bundle_written_anew_is_loaded_anew(bundle, folder):
    assert load_bundle(folder) is load_bundle(folder)
    save_bundle(folder, **(parts_of(bundle) | {"name": "second"}))
    assert load_bundle(folder).name == "second"


def test_statistics_without_a_count_leave_the_former_bundle(bundle, folder):
    statistics = dataclasses.replace(bundle.statistics, count=None)
    with pytest.raises(ValueError, match=r"^statistics: "):
        save_bundle(folder, **(parts_of(bundle) | {"statistics": statistics}))
    assert load(folder).fingerprint == bundle.fingerprint


def changed(config, **changes):
    return UViT(dataclasses.replace(config, **changes))


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("transformer", lambda b: changed(b.nat.transformer.config, num_tokens=15)),
        ("transformer", lambda b: changed(b.nat.transformer.config, codebook_size=63)),
        ("transformer", lambda b: changed(b.nat.transformer.config, num_classes=9)),
        ("judge", lambda b: Classifier(ClassifierConfig(channels=1, num_classes=9))),
        ("features", lambda b: Classifier(ClassifierConfig(channels=1, num_classes=9))),
        (
            "judge",
            lambda b: Classifier(ClassifierConfig(channels=3, num_classes=10, widths=(32, 32))),
        ),
        ("statistics", lambda b: GaussianStatistics(np.zeros(3), np.eye(3), 5)),
        ("real_images", lambda b: b.real_images[:, :, :4]),
        ("real_images", lambda b: b.real_images[:-1]),
        ("real_labels", lambda b: b.real_labels[:-1]),
        ("real_labels", lambda b: b.real_labels + 1),
        ("real_ids", lambda b: b.real_ids[:-1]),
        ("real_ids", lambda b: b.real_ids[:, :-1]),
        ("real_ids", lambda b: b.real_ids + 1),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(
    bundle, folder, tmp_path, argument, make
):
    # Two lengths that differ may be told by either name.
    pattern = "real_" if argument.startswith("real_") else argument
    bad = parts_of(bundle) | {argument: make(bundle)}
    for target in (tmp_path / "new", folder):
        with pytest.raises(ValueError, match=pattern):
            save_bundle(target, **bad)
    assert not (tmp_path / "new").exists()
    assert load(folder).fingerprint == bundle.fingerprint  # what was there still is


def test_an_unwritable_folder_is_refused(bundle, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"^folder: cannot write"):
        save_bundle(tmp_path / "file" / "inside", **parts_of(bundle))
    with pytest.raises(ValueError, match=r"^folder: cannot write"):
        save_bundle(tmp_path / "file", **parts_of(bundle))
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("saves_before", range(4))
@pytest.mark.parametrize("over_another", [False, True])
def test_a_write_that_breaks_off_leaves_no_bundle(
    bundle, folder, tmp_path, monkeypatch, saves_before, over_another
):
    target = folder if over_another else tmp_path / "new"
    original = nat_env.bundles.writer.save_file
    saved = []

    def breaks_off(tensors, path):
        if len(saved) == saves_before:
            Path(path).write_bytes(b"half a fi")
            raise KeyboardInterrupt
        saved.append(path)
        original(tensors, path)

    monkeypatch.setattr(nat_env.bundles.writer, "save_file", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        save_bundle(target, **parts_of(bundle))
    assert not (target / "bundle.json").exists()
    assert not [p for p in target.rglob(".*") if p.is_file()]  # nothing half-written lies about
    with pytest.raises(ValueError, match=r"^bundle: got "):
        load(target)
    monkeypatch.undo()
    save_bundle(target, **parts_of(bundle))
    assert load(target).fingerprint


def test_labels_are_checked(bundle):
    bundle.check_conditions(torch.arange(10))
    for bad in ([10], [-1], [0, 3, 11], [[1]], [1.0], []):
        with pytest.raises(ValueError, match=r"^conditions: got "):
            bundle.check_conditions(torch.tensor(bad))


def test_balanced_conditions_are_even():
    counts = torch.bincount(balanced_conditions(23, 10))
    assert counts.tolist() == [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_damaged_state_file_is_refused(tmp_path, length):
    path = tmp_path / "state.safetensors"
    save_state(path, {"a": [1, {"b": torch.arange(3)}], "c": {4: None}})
    state = load_state(path)
    assert torch.equal(state["a"][1]["b"], torch.arange(3))
    assert state["a"][0] == 1
    assert state["c"] == {4: None}
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"^path: .*state.safetensors"):
        load_state(path)
    with pytest.raises(ValueError, match=r"^path: .*absent"):
        load_state(tmp_path / "absent")


def test_a_description_that_leaves_out_a_part_is_refused(folder):
    edit(folder, lambda values: values["files"].pop("judge.safetensors"))
    with pytest.raises(ValueError, match=r"^bundle: .*lacks judge.safetensors"):
        load(folder)


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match=r"^device: got 'cdua'"):
        load_bundle("digits", device="cdua")
