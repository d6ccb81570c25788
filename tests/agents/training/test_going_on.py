"""A training that is made longer, killed, or whose disk is full, and what its folder then holds."""

import errno
import json
import os
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

import agents.training.callbacks
from agents.learners.config import PRESETS
from agents.runs.checkpoint import load_run_config
from agents.training.train import Training
from nat_env.commands import entry
from nat_env.storage.claims import HOLDER, LOCK
from nat_env.storage.state import load_state

SMALL = replace(
    PRESETS["digits"][1],
    out=Path(),
    num_steps=2,
    budget=3 * 16,
    trajectories_per_round=16,
    hidden_size=16,
    batch_size=32,
    reward="judge",
    eval_every=2,
    num_samples=40,
    threads=1,
)


def train(out, progress=False, **changes):
    training = Training(replace(SMALL, out=out, **changes), progress=progress)
    return training, training.run()


def rounds(folder):
    return load_state(folder / "state.safetensors")["callback"]["rounds"]


def test_a_training_is_made_longer_and_not_shorter(tmp_path, capsys):
    _, short = train(tmp_path)
    with pytest.raises(ValueError, match=r"^budget: got 47, allowed is at least .* has done: 48$"):
        train(tmp_path, resume=True, budget=47)
    training, longer = train(tmp_path, progress=True, resume=True, budget=90, eval_every=1)
    said = capsys.readouterr().out
    assert "budget: 90 images are 5 rounds of 16, 80 images" in said
    assert "budget: 90 images in place of 48; learning rate and sigma" in said
    assert longer["history"][:3] == short["history"]
    assert [row["round"] for row in longer["history"]] == [0, 2, 3, 4, 5]
    assert training.model.policy.action_std == pytest.approx(SMALL.final_action_std)
    stored = load_run_config(tmp_path)
    assert (stored.budget, stored.eval_every) == (90, 1)
    assert json.loads((tmp_path / "results.json").read_text()) == longer
    assert "80 of 80 trajectories" in (tmp_path / "report.md").read_text()


def test_the_state_is_written_now_and_then_and_at_the_end(tmp_path, monkeypatch):
    written = []
    save = agents.training.callbacks.save_state

    def watched(path, state):
        written.append(state["callback"]["rounds"])
        save(path, state)

    monkeypatch.setattr(agents.training.callbacks, "save_state", watched)
    train(tmp_path / "a", eval_every=0, save_every_seconds=1e9)
    train(tmp_path / "b", eval_every=0, save_every_seconds=0.0)
    train(tmp_path / "c", eval_every=2, save_every_seconds=1e9)
    assert written == [3, *range(4), 0, 2, 3]


@pytest.mark.parametrize("residual", ["heuristic", "confidence-map"])
def test_an_interrupted_training_loses_its_unfinished_round_alone(tmp_path, monkeypatch, residual):
    stop = {"residual": residual, "budget": 64, "eval_every": 4, "save_every_seconds": 1e9}
    _, whole = train(tmp_path / "whole", **stop)
    training = Training(replace(SMALL, out=tmp_path / "run", **stop), progress=False)
    on_step, seen = training.callback._on_step, []

    def stopped():
        seen.append(1)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return on_step()

    monkeypatch.setattr(training.callback, "_on_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        training.run()
    assert rounds(tmp_path / "run") == 2
    _, resumed = train(tmp_path / "run", resume=True, **stop)
    assert resumed == whole


def test_a_killed_training_s_later_events_are_forgotten_and_its_lock_is_no_lock(tmp_path):
    path = tmp_path / "state.safetensors"
    train(tmp_path, budget=32)
    early = path.read_bytes()
    train(tmp_path, budget=64, resume=True)
    path.write_bytes(early)  # what a process leaves that ends without a word
    (tmp_path / LOCK).touch()
    (tmp_path / HOLDER).write_text('{"pid": 1, "host": "x", "since": "then"}')
    train(tmp_path, budget=64, resume=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("reward/mean")] == [16, 32, 48, 64]


def full(path="state.safetensors"):
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


@pytest.mark.parametrize("what", ["state", "events"])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(tmp_path, monkeypatch, what):
    _, whole = train(tmp_path / "whole")
    out = tmp_path / "run"
    training = Training(replace(SMALL, out=out, save_every_seconds=0.0), progress=False)
    record = training.callback._record_rollout

    def fill_in_round_two():
        if training.callback.rounds == 1:
            if what == "state":
                monkeypatch.setattr(agents.training.callbacks, "save_state", fails)
            else:
                monkeypatch.setattr(RecordWriter, "flush", fails)
        record()

    def fails(*arguments):
        raise full()

    monkeypatch.setattr(training.callback, "_record_rollout", fill_in_round_two)
    with pytest.raises(
        OSError, match=r"cannot go on in .*No space left.*--resume --out .* goes on$"
    ):
        training.run()
    monkeypatch.undo()
    assert rounds(out) == {"state": 1, "events": 2}[what]
    _, resumed = train(out, resume=True)
    assert resumed == whole


@pytest.mark.parametrize("what", ["config", "events"])
def test_a_refused_start_does_not_take_the_folder(tmp_path, monkeypatch, what):
    def fails(*arguments):
        raise full()

    place = "agents.runs.checkpoint.write_json" if what == "config" else RecordWriter.__module__
    with monkeypatch.context() as patch:
        patch.setattr(place if what == "config" else f"{place}.RecordWriter.flush", fails)
        words = ["digits", "--out", str(tmp_path / "run"), "--threads", "1"]
        with pytest.raises(SystemExit, match=r"^nat-train: cannot go on in .*No space left") as end:
            entry.train(args=words)
    assert "\n" not in str(end.value)
    assert not (tmp_path / "run" / "config.json").exists()
    Training(replace(SMALL, out=tmp_path / "run"), progress=False).close()


def test_without_a_login_of_weights_and_biases_nothing_is_taken(tmp_path, monkeypatch):
    class UsageError(Exception):
        pass

    def init(**options):
        raise UsageError("No API key configured. Use `wandb login` to log in.\nmore")

    stub = SimpleNamespace(init=init, __spec__=ModuleSpec("wandb", None))
    monkeypatch.setitem(sys.modules, "wandb", stub)
    words = ["digits", "--out", str(tmp_path / "run"), "--wandb", "mine", "--threads", "1"]
    with pytest.raises(SystemExit, match=r"wandb: .*'mine'.*No API key.*`wandb login`") as ended:
        entry.train(args=words)
    assert "WANDB_MODE=offline" in str(ended.value) and "\n" not in str(ended.value)
    assert list((tmp_path / "run").iterdir()) == []
    Training(replace(SMALL, out=tmp_path / "run"), progress=False).close()
