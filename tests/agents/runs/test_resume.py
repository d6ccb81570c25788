"""What the words of nat-train are completed to, with --resume and without."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import tyro

from agents.learners.config import PRESETS
from agents.runs.checkpoint import (
    check_same_run,
    load_run_config,
    save_run_config,
    update_run_config,
)
from agents.runs.repeat import training_command
from agents.runs.resume import completed_words
from agents.runs.snapshot import random_states, restore_random_states
from agents.training import train
from nat_env.bundles.loading import load_bundle
from nat_env.commands import entry
from nat_env.rewards.discriminator_config import DiscriminatorConfig


@pytest.fixture
def run(tmp_path):
    """The folder of a run with options that no preset has, and its configuration."""
    config = replace(
        PRESETS["digits"][1],
        out=tmp_path / "a run",
        budget=5120,
        seed=3,
        adaptive=False,
        algo_options={"vf_coef": 0.25},
        discriminator=DiscriminatorConfig(trunk="bundle", widths=(8, 16)),
        threads=1,
        wandb="mine",
        rollout_folder=tmp_path,
        save_every_seconds=5.0,
        dtype="float32",
    )
    config.out.mkdir()
    save_run_config(config.out, config, load_bundle("digits", "float32"))
    return config.out, config


def options(words, monkeypatch):
    """What nat-train would train."""
    found = []
    monkeypatch.setattr(train, "command", found.append)
    monkeypatch.setattr("sys.argv", ["nat-train", *words])
    entry.train()
    return found[0]


@pytest.mark.parametrize("given", [["--out", "{}"], ["--out={}"], ["digits", "--out", "{}"]])
def test_the_folder_alone_is_enough(run, monkeypatch, given):
    out, config = run
    words = [word.format(out) for word in given]
    assert options([*words, "--resume"], monkeypatch) == replace(config, resume=True)
    longer = options([*words, "--resume", "--budget", "10240", "--threads", "2"], monkeypatch)
    assert longer == replace(config, resume=True, budget=10_240, threads=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"^nat-train: preset: got none, choose one of fashion, emoji, digits, custom, paper$"),
        (["--out", "x"], r"^nat-train: preset: got none"),
        (["paint", "--out", "x"], r"^nat-train: preset: got paint, choose one of fashion"),
        (["--resume"], r"^nat-train: out: got none, allowed with --resume is the folder of a run$"),
        (["--resume", "--out", "x"], r"^nat-train: run: 'x' holds no run"),
        (["fashion", "--resume", "--out", "{}"], r"preset: got fashion, .*the bundle 'digits'$"),
        (["paint", "--resume", "--out", "{}"], r"preset: got paint, choose one of"),
    ],
)
def test_what_is_missing_is_one_sentence(run, monkeypatch, words, message):
    with pytest.raises(SystemExit, match=message) as ended:
        options([word.format(run[0]) for word in words], monkeypatch)
    assert "\n" not in str(ended.value)


def test_a_bundle_of_ones_own_has_a_preset(monkeypatch, capsys):
    config = options(["custom", "--bundle", "mine", "--out", "runs/a"], monkeypatch)
    assert config == replace(PRESETS["fashion"][1], bundle="mine", out=Path("runs/a"))
    assert training_command(config) == [
        *("nat-train", "custom", "--out", "runs/a", "--bundle", "mine")
    ]
    with pytest.raises(SystemExit):
        options(["custom", "--out", "runs/a"], monkeypatch)
    assert "--bundle" in capsys.readouterr().err
    assert completed_words(["--help"]) == ["--help"]
    assert PRESETS["custom"][1].bundle is tyro.MISSING


@pytest.mark.parametrize("place", ["config", "discriminator"])
def test_an_option_of_another_version_is_named(run, place):
    path = run[0] / "config.json"
    stored = json.loads(path.read_text())
    (stored["config"] if place == "config" else stored["config"][place])["warmth"] = 3
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"^run: .*config.json .*options of another .*: warmth\)"):
        load_run_config(run[0])


def test_options_that_a_run_did_not_have_yet_are_the_usual_ones(run):
    out, config = run
    path = out / "config.json"
    stored = json.loads(path.read_text())
    for name in ("clip_range", "shared_noise"):
        del stored["config"][name]
    del stored["config"]["discriminator"]["augment"], stored["call"]
    path.write_text(json.dumps(stored))
    usual = {"threads": None, "wandb": None, "rollout_folder": None, "save_every_seconds": 60.0}
    assert load_run_config(out) == replace(config, **usual)
    bundle = load_bundle("digits", "float32")
    check_same_run(out, config, bundle)
    with pytest.raises(ValueError, match=r"clip_range = 0\.2, now 0\.3 is asked for"):
        check_same_run(out, replace(config, clip_range=0.3), bundle)
    check_same_run(out, replace(config, budget=99_999, eval_every=3), bundle)
    with pytest.raises(ValueError, match="eval_every = 20, now 0 is asked for"):
        check_same_run(out, replace(config, eval_every=0), bundle)


def test_how_a_run_computes_may_change_and_not_to_what_precision(run):
    out, config = run
    bundle = load_bundle("digits", "float32")
    elsewhere = replace(
        config, device="cuda:1", threads=4, rows_per_pass=7, compiled=True, tf32=True
    )
    check_same_run(out, elsewhere, bundle)
    update_run_config(out, elsewhere, bundle)
    assert load_run_config(out) == elsewhere
    with pytest.raises(ValueError, match="decoder_dtype = 'float32', now 'bfloat16' is asked"):
        check_same_run(out, replace(config, decoder_dtype="bfloat16"), bundle)


@pytest.mark.parametrize(("device", "restored"), [("cuda:1", {"cuda:1": "a"}), ("cpu", {})])
def test_a_run_goes_on_on_another_device(monkeypatch, device, restored):
    states, found = random_states(torch.device("cpu")), {}
    assert states["cuda"] == []
    monkeypatch.setattr(
        "torch.cuda.set_rng_state", lambda state, on: found.update({str(on): state})
    )
    restore_random_states(states | {"cuda": ["a"]}, torch.device(device))
    assert found == restored
