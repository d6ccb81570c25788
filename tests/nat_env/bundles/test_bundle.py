"""Bundles: shared once loaded, refused when damaged or ill-fitting, written whole or not at all."""

import copy
import dataclasses
import json
import pickle
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

import nat_env
import nat_env.bundles.loading
import nat_env.bundles.writer
import nat_env.frozen.weights
from nat_env import load_bundle, shipped_bundles
from nat_env.bundles.loading import bundle_folder, bundle_spec, own_spec, resolve_dtype
from nat_env.bundles.statistics import GaussianStatistics
from nat_env.bundles.writer import save_bundle
from nat_env.bundles.yardstick import Yardstick
from nat_env.frozen.conditions import Conditions, balanced_conditions
from nat_env.frozen.weights import save_weights
from nat_env.models.classifier import Classifier, ClassifierConfig, embeddings_of
from nat_env.models.uvit import UViT
from nat_env.storage.files import sha256
from nat_env.storage.state import load_state, save_state

ASSETS = Path(nat_env.__file__).parent / "assets"
FILES = (
    "transformer/model.safetensors",
    "judge/model.safetensors",
    "trunk/model.safetensors",
    "statistics.safetensors",
    "reals.safetensors",
    "tokenizer/config.json",
    "tokenizer/diffusion_pytorch_model.safetensors",
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
        "conditions": bundle.conditions,
        "tokenizer": bundle.tokenizer,
        "transformer": bundle.nat.transformer,
        "yardstick": bundle.yardstick,
        "trunk": bundle.trunk,
        "reals": bundle.reals,
        "training": bundle.training,
        "quality": bundle.quality,
    }


def with_judge(bundle, judge):
    return {"yardstick": dataclasses.replace(bundle.yardstick, judge=judge)}


def with_reals(bundle, **changes):
    return {"reals": dataclasses.replace(bundle.reals, **changes)}


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
    notes = {file for file in found if file.endswith(".txt")}  # for readers: no model needs them
    assert set(found) - {"bundle.json"} - notes == set(listed)
    for file, digest in listed.items():
        assert sha256(found[file]) == digest


def test_the_emoji_say_which_captions_were_trained_on_and_whose_they_are():
    folder = ASSETS / "emoji"
    splits = [
        (folder / f"captions_{name}.txt").read_text("utf-8").splitlines()
        for name in ("training", "unseen_style", "unseen_concept")
    ]
    prompts = json.loads((folder / "bundle.json").read_text("utf-8"))["conditions"]
    assert sorted(chain(*splits)) == sorted(prompts) and len(set(prompts)) == len(prompts)
    trained, other_style, unseen = (
        {caption.rpartition(", ")[0] for caption in split} for split in splits
    )
    assert other_style <= trained and not unseen & trained
    notice = (folder / "NOTICE.txt").read_text("utf-8")
    for words in ("Google", "Twitter", "Microsoft", "creativecommons.org/licenses/by/4.0"):
        assert words in notice
    assert "Apache License" in notice and "Permission is hereby granted, free of charge" in notice


def is_pickle(path):
    """By its first bytes: a pickle, a zip (torch.save, numpy's npz) or a numpy file."""
    head = path.read_bytes()[:8]
    if head.startswith((b"PK\x03\x04", b"\x93NUMPY", b"\x1f\x8b", b"BZh")):
        return True
    return len(head) > 1 and head[0] == 0x80 and head[1] <= 5


def test_nothing_that_ships_is_a_pickle(tmp_path):
    for path in (p for p in ASSETS.rglob("*") if p.is_file()):
        assert path.suffix in {".json", ".safetensors", ".txt"}, path
        assert not is_pickle(path), path
        head = path.read_bytes()[:9]
        if path.suffix == ".safetensors":
            assert int.from_bytes(head[:8], "little") < path.stat().st_size
            assert head[8:9] == b"{"
        elif path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert "\0" not in path.read_text("utf-8")
    torch.save({"a": torch.ones(2)}, tmp_path / "planted.safetensors")
    assert is_pickle(tmp_path / "planted.safetensors")
    for protocol in range(2, 6):
        (tmp_path / "planted.json").write_bytes(pickle.dumps([1, 2], protocol))
        assert is_pickle(tmp_path / "planted.json")


def test_parts_fit_together(bundle):
    count = len(bundle.reals.images)
    assert len(bundle.conditions) == 10
    assert bundle.nat.feature_grid == bundle.tokenizer.grid == (4, 4)
    assert bundle.num_tokens == 16
    assert bundle.nat.mask_id == bundle.tokenizer.codebook_size == 64
    assert bundle.nat.null_condition == 10
    assert bundle.nat.feature_size == 64
    assert bundle.reals.images.dtype == torch.uint8
    assert bundle.reals.images.shape == (count, 1, 8, 8)
    assert bundle.reals.conditions.shape == (count,)
    assert bundle.reals.ids.shape == (count, 16)
    assert 0 <= bundle.reals.ids.min() <= bundle.reals.ids.max() < 64
    assert not any(p.requires_grad for p in bundle.nat.transformer.parameters())
    assert not any(p.requires_grad for p in bundle.yardstick.judge.parameters())
    assert not any(p.requires_grad for p in bundle.tokenizer.vq.parameters())
    assert not (bundle.nat.transformer.training or bundle.yardstick.judge.training)
    assert not bundle.tokenizer.vq.training


def test_stored_tokens_and_statistics_are_those_of_the_images(bundle):
    images = bundle.reals.images.float() / 255
    agreement = (bundle.tokenizer.encode(images) == bundle.reals.ids).float().mean()
    assert agreement > 0.999  # but for ties that round the other way on another machine
    embeddings = embeddings_of(bundle.yardstick.judge, bundle.reals.images).double().numpy()
    assert bundle.yardstick.statistics.count == len(images)
    labels = bundle.reals.conditions.numpy()
    weights = 1 / np.bincount(labels)[labels] / 10  # classes alike
    mean = weights @ embeddings
    covariance = (embeddings - mean).T @ (weights[:, None] * (embeddings - mean))
    statistics = bundle.yardstick.statistics
    np.testing.assert_allclose(statistics.mean, mean, atol=1e-4)
    np.testing.assert_allclose(statistics.covariance, covariance, atol=2e-3)


# Loading


def test_loaded_once_and_shared(folder, monkeypatch):
    loaded = []
    original = nat_env.bundles.loading.load_file
    for module in (nat_env.bundles.loading, nat_env.frozen.weights):
        monkeypatch.setattr(module, "load_file", lambda p: loaded.append(p) or original(p))
    first = load(folder)
    assert len(loaded) == 5
    assert load(str(folder)) is first
    assert load(folder / "tokenizer" / "..") is first
    monkeypatch.chdir(folder.parent)
    assert load("mine") is first
    assert len(loaded) == 5
    assert first.tokenizer is load(folder).tokenizer


def test_reading_and_first_decoding_draw_no_random_numbers(folder):
    state = torch.get_rng_state()
    bundle = load_bundle(folder)
    bundle.tokenizer.decode(torch.zeros(1, bundle.num_tokens, dtype=torch.int64))
    bundle.nat.passes(torch.zeros(1, bundle.num_tokens, dtype=torch.int64), torch.zeros(1).long())
    assert torch.equal(torch.get_rng_state(), state)


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


@pytest.mark.parametrize("dtype", ["float8", "", "double"])
def test_unknown_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match=r"^dtype: got "):
        load_bundle("digits", dtype)


def test_dtypes_by_name():
    assert resolve_dtype("float32") is torch.float32
    assert resolve_dtype("bfloat16") is torch.bfloat16
    assert resolve_dtype("float16") is torch.float16
    assert resolve_dtype("auto") in (torch.float32, torch.bfloat16)


def test_float16_decodes_almost_as_float32():
    ids, conditions = torch.full((2, 16), 64), torch.tensor([1, 2])
    exact, half = (
        load_bundle("digits", dtype=dtype).nat.passes(ids, conditions)
        for dtype in ("float32", "float16")
    )
    assert half.logits.dtype == torch.float16
    torch.testing.assert_close(half.logits.float(), exact.logits, atol=0.05, rtol=0.01)
    torch.testing.assert_close(half.features, exact.features, atol=0.05, rtol=0.01)


def test_where_float16_cannot_be_multiplied_the_message_says_what_to_take(monkeypatch):
    def unable(*_):
        raise RuntimeError("not implemented for 'Half'")

    monkeypatch.setattr(torch.nn.functional, "linear", unable)
    with pytest.raises(ValueError, match=r"^dtype: got 'float16', .* on 'cpu' .*take 'float32'"):
        load_bundle("digits", dtype="float16")


def test_a_device_has_one_name_and_bundles_can_be_forgotten():
    bundle = load_bundle("digits")
    assert load_bundle("digits", device="cpu:0") is bundle
    load_bundle.cache_clear()  # type: ignore[attr-defined]
    assert load_bundle("digits") is not bundle


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


@pytest.mark.parametrize("part", ["judge", "trunk", "transformer"])
def test_weights_that_are_not_finite_are_refused(bundle, tmp_path, part):
    parts = parts_of(bundle)
    parts |= with_judge(bundle, copy.deepcopy(bundle.yardstick.judge))
    parts |= {name: copy.deepcopy(parts[name]) for name in ("trunk", "transformer")}
    network = parts["yardstick"].judge if part == "judge" else parts[part]
    name, values = next(iter(network.named_parameters()))
    values.data.view(-1)[-1] = float("nan")
    save_bundle(tmp_path / "new", **parts)
    with pytest.raises(ValueError, match=rf"^bundle: .*{name} in .*is not finite; make the bundle"):
        load(tmp_path / "new")


def test_a_file_of_another_bundle_is_named(folder, bundle):
    judge = Classifier(bundle.yardstick.judge.config)
    save_weights(judge, folder / "judge")
    with pytest.raises(ValueError, match=r"^bundle: .*judge/model.safetensors"):
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
        "conditions",
        "transformer",
        "tokenizer",
        "judge",
        "trunk",
        "fingerprint",
        "training",
        "quality",
        "files",
    ],
)
def test_a_description_without_one_of_its_keys_is_refused(folder, key):
    edit(folder, lambda values: values.pop(key))
    with pytest.raises(ValueError, match=r"^bundle: .*mine"):
        load(folder)


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_another_format_is_refused(folder, version):
    edit(folder, lambda values: values.update(format=version))
    with pytest.raises(ValueError, match=r"^bundle: format .* allowed is 2"):
        load(folder)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("transformer", {"hidden_size": 128}),
        ("transformer", {"depth": 5}),
        ("transformer", {"depth": 1}),
        ("transformer", {"grid": [7, 7]}),
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
    edit(folder, lambda values: values[part]["config"].update(changes))
    with pytest.raises(ValueError, match=r"^bundle: .*does not fit together"):
        load(folder)


@pytest.mark.parametrize("names", [["only one"], [*map(str, range(9))], [*map(str, range(11))]])
def test_conditions_that_do_not_fit_are_refused(folder, names):
    edit(folder, lambda values: values.update(conditions=names))
    with pytest.raises(ValueError, match=r"^bundle: .*does not fit together"):
        load(folder)


def test_a_bundle_that_was_repaired_loads(folder):
    """A failure is not remembered."""
    data = (folder / "judge" / "model.safetensors").read_bytes()
    (folder / "judge" / "model.safetensors").write_bytes(data[:-1])
    with pytest.raises(ValueError, match=r"judge"):
        load(folder)
    (folder / "judge" / "model.safetensors").write_bytes(data)
    assert load(folder).name == "digits"


# Writing


def test_round_trip(bundle, tmp_path):
    save_bundle(tmp_path / "copy", **parts_of(bundle))
    copy = load(tmp_path / "copy")
    for name in ("name", "training", "quality", "num_tokens"):
        assert getattr(copy, name) == getattr(bundle, name)
    assert copy.conditions.names == bundle.conditions.names
    assert copy.yardstick.name == "digits-judge"
    for name in ("images", "conditions", "ids"):
        left, right = getattr(copy.reals, name), getattr(bundle.reals, name)
        assert torch.equal(left, right) and left.dtype == right.dtype
    left, right = copy.yardstick.statistics, bundle.yardstick.statistics
    np.testing.assert_array_equal(left.mean, right.mean)
    np.testing.assert_array_equal(left.covariance, right.covariance)
    assert left.count == right.count
    for left, right in [
        (copy.nat.transformer, bundle.nat.transformer),
        (copy.yardstick.judge, bundle.yardstick.judge),
        (copy.trunk, bundle.trunk),
        (copy.tokenizer.vq, bundle.tokenizer.vq),
    ]:
        assert left is not right
        assert left.state_dict().keys() == right.state_dict().keys()
        for key, value in left.state_dict().items():
            assert torch.equal(value, right.state_dict()[key])
    assert {p.suffix for p in (tmp_path / "copy").rglob("*.*")} == {".json", ".safetensors"}


def test_fingerprint_is_that_of_the_models(bundle, tmp_path):
    parts = parts_of(bundle)
    judge = copy.deepcopy(bundle.yardstick.judge)
    judge.classifier.bias.data[3] += 1e-3
    save_bundle(tmp_path / "first", **parts)
    first = load(tmp_path / "first")
    save_bundle(tmp_path / "other", **(parts | with_judge(bundle, judge)))
    save_bundle(tmp_path / "same", **(parts_of(first) | {"name": "renamed"}))
    assert load(tmp_path / "other").fingerprint != first.fingerprint
    # Neither its name nor the folder that it was loaded from makes it another one.
    assert load(tmp_path / "same").fingerprint == first.fingerprint


def test_a_bundle_written_anew_is_loaded_anew(bundle, folder):
    assert load_bundle(folder) is load_bundle(folder)
    save_bundle(folder, **(parts_of(bundle) | {"name": "second"}))
    assert load_bundle(folder).name == "second"


def changed(config, **changes):
    return UViT(dataclasses.replace(config, **changes))


def narrow(channels, num_classes):
    return Classifier(ClassifierConfig(channels, num_classes, widths=(32, 32)))


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("transformer", lambda b: {"transformer": changed(b.nat.transformer.config, grid=(3, 5))}),
        (
            "transformer",
            lambda b: {"transformer": changed(b.nat.transformer.config, codebook_size=63)},
        ),
        ("conditions", lambda b: {"conditions": Conditions(("only one",))}),
        ("judge", lambda b: with_judge(b, narrow(1, 9))),
        ("judge", lambda b: with_judge(b, narrow(3, 10))),
        ("trunk", lambda b: {"trunk": narrow(1, 9)}),
        ("reals", lambda b: with_reals(b, images=b.reals.images[:, :, :4])),
        ("reals", lambda b: with_reals(b, conditions=b.reals.conditions + 1)),
        ("reals", lambda b: with_reals(b, ids=b.reals.ids[:, :-1])),
        ("reals", lambda b: with_reals(b, ids=b.reals.ids + 1)),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(
    bundle, folder, tmp_path, argument, change
):
    bad = parts_of(bundle) | change(bundle)
    for target in (tmp_path / "new", folder):
        with pytest.raises(ValueError, match=argument):
            save_bundle(target, **bad)
    assert not (tmp_path / "new").exists()
    assert load(folder).fingerprint == bundle.fingerprint  # what was there still is


@pytest.mark.parametrize(
    "make",
    [
        lambda b: with_reals(b, images=b.reals.images[:-1]),
        lambda b: with_reals(b, images=b.reals.images.long()),
        lambda b: with_reals(b, conditions=b.reals.conditions[:-1]),
        lambda b: with_reals(b, conditions=b.reals.conditions - 1),
        lambda b: with_reals(b, ids=b.reals.ids[:-1]),
        lambda b: Yardstick("j", b.yardstick.judge, GaussianStatistics(np.zeros(3), np.eye(3), 5)),
        lambda b: dataclasses.replace(
            b.yardstick, statistics=dataclasses.replace(b.yardstick.statistics, count=None)
        ),
        lambda b: Conditions(()),
        lambda b: Conditions(("a", "b"), context=torch.zeros(2, 4, 3)),
        lambda b: Conditions(("a", "b"), pooled=torch.full((3, 4), torch.nan)),
    ],
)
def test_parts_that_make_no_sense_cannot_be_made(bundle, make):
    with pytest.raises(ValueError, match=r"^(reals|statistics|conditions): got "):
        make(bundle)


def test_an_unwritable_folder_is_refused(bundle, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"^folder: cannot write"):
        save_bundle(tmp_path / "file" / "inside", **parts_of(bundle))
    with pytest.raises(ValueError, match=r"^folder: cannot write"):
        save_bundle(tmp_path / "file", **parts_of(bundle))
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("saves_before", range(4))
@pytest.mark.parametrize("over_another", [False, True])
def test_a_write_that_breaks_off_leaves_the_bundle_of_before(
    bundle, folder, tmp_path, monkeypatch, saves_before, over_another
):
    target = folder if over_another else tmp_path / "new"
    before = {p: p.read_bytes() for p in target.rglob("*") if p.is_file()}
    original = nat_env.bundles.writer.save_file
    saved: list[Path] = []

    def breaks_off(tensors, path):
        if len(saved) == saves_before:
            Path(path).write_bytes(b"half a fi")
            raise KeyboardInterrupt
        saved.append(path)
        original(tensors, path)

    for module in (nat_env.bundles.writer, nat_env.frozen.weights):
        monkeypatch.setattr(module, "save_file", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        save_bundle(target, **parts_of(bundle))
    assert {p: p.read_bytes() for p in target.rglob("*") if p.is_file()} == before
    monkeypatch.undo()
    save_bundle(target, **parts_of(bundle))
    assert load(target).fingerprint


def test_a_killed_write_is_taken_up_and_a_folder_of_something_else_is_not(bundle, tmp_path):
    target = tmp_path / "new"
    (target / "judge").mkdir(parents=True)
    (target / "judge" / "verdicts.txt").write_text("of a court")
    with pytest.raises(
        ValueError, match=r"^folder: .*new' is no bundle, but has a 'judge'; choose"
    ):
        save_bundle(target, **parts_of(bundle))
    assert (target / "judge" / "verdicts.txt").read_text() == "of a court"
    (target / ".aside.abcdefgh" / "trunk").mkdir(parents=True)  # killed when it had the judge
    (target / "notes.txt").write_text("mine")
    save_bundle(target, **parts_of(bundle))
    assert load(target).fingerprint
    assert (target / "notes.txt").read_text() == "mine"
    assert not list(target.glob(".*"))


def test_labels_are_checked(bundle):
    bundle.conditions.check(torch.arange(10))
    for bad in ([10], [-1], [0, 3, 11], [[1]], [1.0], []):
        with pytest.raises(ValueError, match=r"^conditions: got "):
            bundle.conditions.check(torch.tensor(bad))


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
    edit(folder, lambda values: values["files"].pop("judge/model.safetensors"))
    with pytest.raises(ValueError, match=r"^bundle: .*bundle.json is damaged: the models"):
        load(folder)


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match=r"^device: got 'cdua'"):
        load_bundle("digits", device="cdua")


def test_a_folder_of_ones_own_may_have_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = bundle_folder("digits")
    with pytest.raises(ValueError, match=r"^bundle: got './digits', allowed are digits"):
        bundle_folder("./digits")
    shutil.copytree(shipped, tmp_path / "digits")
    assert bundle_folder("digits") == shipped
    for name in ("./digits", "digits/", tmp_path / "digits", own_spec(Path("digits"))):
        assert bundle_folder(name) == tmp_path / "digits"
        assert bundle_spec(name) == str(tmp_path / "digits")
