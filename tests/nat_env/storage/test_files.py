"""Writing: whole or not at all on a disk that is full, read-only or cut off; one sentence."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError

import nat_env.storage.files
import nat_env.storage.state
from nat_env.schedules import heuristic_schedule
from nat_env.storage.claims import claimed, edited, locked
from nat_env.storage.files import (
    WriteError,
    require_writable_folder,
    write_json,
    write_text,
    written_aside,
)
from nat_env.storage.state import load_state, save_state

FULL = OSError(errno.ENOSPC, "No space left on device")
FULL_SAFETENSORS = SafetensorError(
    'Error while serializing: I/O error: No space left on device (os error 28)'
)  # fmt: skip


def writers():
    """By the kind of file: what writes one into a path that may be there."""

    def png(path):
        with written_aside(path) as aside:
            Image.new("L", (400, 400)).save(aside, format="PNG")

    def figure(path):
        with written_aside(path) as aside:
            matplotlib.figure.Figure().savefig(aside, format="png")

    def arrays(path):
        with written_aside(path) as aside, aside.open("wb") as file:
            np.savez(file, np.zeros(9))

    def weights(path):
        with written_aside(path) as aside:
            torch.save(torch.zeros(9), aside)

    return {
        "text": lambda path: write_text(path, "new" * 999),
        "json": lambda path: write_json(path, {"new": 1}),
        "state": lambda path: save_state(path, {"new": torch.zeros(99)}),
        "schedule": lambda path: heuristic_schedule(4).save(path),
        "PNG": png,
        "figure": figure,
        "npz": arrays,
        "torch": weights,
    }


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("kind", writers())
def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path, monkeypatch, kind, there):
    """The kernel tells of a full disk when bytes are written, or first when they are synced."""
    path = tmp_path / "folder" / "x"
    if there:
        path.parent.mkdir()
        path.write_text("old")

    def full(handle):
        raise FULL

    monkeypatch.setattr(os, "fsync", full)
    told = rf"^cannot write '{path}' \(No space left on device\); make room on its disk, then"
    with pytest.raises(OSError, match=told):
        writers()[kind](path)
    assert [p.name for p in path.parent.iterdir()] == ["x"] * there
    assert not there or path.read_text() == "old"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FULL, r"\(No space left on device\); make room on its disk"),
        (FULL_SAFETENSORS, r"\(No space left on device\); make room on its disk"),
        (OSError(errno.EROFS, "x"), r"\(Read-only file system\); choose a folder that can be"),
        (OSError(errno.EDQUOT, "x"), r"\(Disk quota exceeded\); make room"),
        (OSError(errno.EIO, "x"), r"\(Input/output error\)$"),
        (OSError(errno.ENAMETOOLONG, "x"), r"\(File name too long\); choose a shorter path$"),
        (SafetensorError("strange"), r"\(strange\)$"),
        (WriteError("cannot write 'y' (z)"), r"^cannot write 'y' \(z\)$"),
    ],
)
def test_whatever_a_library_raises_names_the_file(tmp_path, monkeypatch, error, told):
    def fails(*given, **options):
        raise error

    monkeypatch.setattr(nat_env.storage.state, "save_file", fails)
    with pytest.raises(WriteError, match=told):
        save_state(tmp_path / "x", {})
    assert list(tmp_path.iterdir()) == []


def test_other_errors_are_left_as_they_are(tmp_path):
    with pytest.raises(ZeroDivisionError), written_aside(tmp_path / "x"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """File, name, folder: the order in which a power cut can lose nothing that was there."""
    done = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle):
        done.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    def renamed(aside, target):
        done.append(f"to {target.name}")
        return replace(aside, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_text(tmp_path / "x", "text")
    assert done[0].startswith(str(tmp_path / ".x."))
    assert done[1:] == ["to x", str(tmp_path)]


WRITE = """
import sys
from pathlib import Path
from nat_env.storage.files import written_aside
with written_aside(Path(sys.argv[1])) as aside:
    aside.write_text("half")
    print(aside, flush=True)
    sys.stdin.read()
    aside.write_text("whole")
"""


def test_what_a_killed_writer_left_is_removed_and_a_living_one_is_left_alone(tmp_path):
    path = tmp_path / "x"
    (tmp_path / ".x.json.abcdefgh").touch()  # of another file
    (tmp_path / ".x.lock").touch()
    others = {".x.json.abcdefgh", ".x.lock"}
    asides, processes = [], []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        asides.append(Path(process.stdout.readline().strip()))
    processes[0].send_signal(signal.SIGKILL)
    processes[0].communicate()
    assert asides[0].read_text() == "half"
    write_text(path, "mine")
    assert {p.name for p in tmp_path.iterdir()} == {"x", asides[1].name} | others
    assert path.read_text() == "mine"
    processes[1].communicate()
    assert processes[1].returncode == 0
    assert {p.name for p in tmp_path.iterdir()} == {"x"} | others
    assert path.read_text() == "whole"


def test_an_aside_taken_for_abandoned_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    """Another writer may come between a file's making and its lock."""
    made = nat_env.storage.files.tempfile.mkstemp
    taken = []

    def mkstemp(**options):
        handle, name = made(**options)
        if not taken:
            taken.append(name)
            os.unlink(name)
        return handle, name

    monkeypatch.setattr(nat_env.storage.files.tempfile, "mkstemp", mkstemp)
    write_text(tmp_path / "x", "text")
    assert (tmp_path / "x").read_text() == "text"


def test_a_text_that_utf_8_does_not_have_is_escaped(tmp_path):
    write_text(tmp_path / "x", "k\udce4tzchen, größer")
    assert (tmp_path / "x").read_text("utf-8") == "k\\udce4tzchen, größer"


@pytest.mark.parametrize(
    "use",
    [
        lambda path: write_text(path, "x"),
        lambda path: save_state(path, {}),
        lambda path: require_writable_folder(path),
        lambda path: locked(path).__enter__(),
        lambda path: claimed(path, "x.json", {"a": 1}).__enter__(),
        lambda path: edited(path).__enter__(),
        lambda path: heuristic_schedule(4).save(path),
    ],
)
def test_no_folder_called_tilde_is_made(tmp_path, monkeypatch, use):
    monkeypatch.chdir(tmp_path)
    for text in ("~", "~/x", "~/x/y"):
        with pytest.raises(ValueError, match=rf"^path: got '{text}', whose ~ only a shell expands"):
            use(Path(text))
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_users_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(Path("~no such user~"), "x")
    assert [p.name for p in tmp_path.iterdir()] == ["~no such user~"]


def test_a_folder_that_is_refused_is_not_there(tmp_path, monkeypatch):
    class FullFile(io.BytesIO):
        def flush(self):
            raise FULL

    monkeypatch.setattr(nat_env.storage.files.tempfile, "TemporaryFile", lambda dir: FullFile())
    told = r"^folder: cannot write in '.*/a/b' \(.*No space left on device\); make room"
    with pytest.raises(ValueError, match=told):
        require_writable_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_state_is_read_as_it_was_written(tmp_path):
    save_state(tmp_path / "x", {"a": [1, {"b": torch.arange(3)}], "c": {4: None}})
    state = load_state(tmp_path / "x")
    assert torch.equal(state["a"][1]["b"], torch.arange(3))
    assert state["c"] == {4: None}


def test_a_state_takes_numbers_of_numpy(tmp_path):
    numbers = {"mean": np.float32(1.5), "count": np.int64(3), "seen": np.bool_(True)}
    save_state(tmp_path / "x", {"reward": [numbers]})
    (back,) = load_state(tmp_path / "x")["reward"]
    assert back == {"mean": 1.5, "count": 3, "seen": True}
    assert [type(value) for value in back.values()] == [float, int, bool]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"mean": np.arange(3)}, r"got ndarray in state\['reward'\]\['mean'\], allowed are tens"),
        ([0, {1, 2}], r"got set in state\['reward'\]\[1\]"),
        ({"x": 1j}, r"got complex in "),
        ({"x": np.complex64(1)}, r"got complex in "),
        ({"x": Path("x")}, r"got PosixPath in "),
        ({1.5: 2}, r"got keys \[1.5\] in state\['reward'\], allowed are texts or integers"),
        ({None: 2}, r"got keys \[None\] in "),
        ({True: 2}, r"got keys \[True\] in "),
        ({1: 2, "1": 3}, r"got keys \[1, '1'\] in "),
    ],
)
def test_a_state_that_would_not_come_back_is_refused(tmp_path, value, told):
    with pytest.raises(ValueError, match=r"^state: " + told):
        save_state(tmp_path / "x", {"reward": value})
    assert list(tmp_path.iterdir()) == []
