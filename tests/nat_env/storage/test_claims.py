"""One configuration a folder, and one writer at a time: other processes are real ones here."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from nat_env.storage.claims import (
    CONFIGURATIONS,
    HOLDER,
    LOCK,
    check_same,
    check_unclaimed,
    claimed,
    locked,
)
from nat_env.storage.folders import check_new

NAME = "search.json"
IDENTITY = {"method": "cma", "options": {"seed": 0, "widths": (8, 16)}}

HOLD = """
import sys
from pathlib import Path
from nat_env.storage.claims import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another(folder: Path):
    """A process that holds the lock on `folder` until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.communicate()


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_second_process_is_refused_by_name(tmp_path):
    with held_by_another(tmp_path) as other:
        before = contents(tmp_path)
        holder = rf"process {other.pid} on {socket.gethostname()}, since 20\d\d-.* choose another"
        with (
            pytest.raises(ValueError, match=rf"^work: '{tmp_path}' is in use by {holder}"),
            claimed(tmp_path, NAME, IDENTITY, "work"),
        ):
            raise AssertionError("two writers")
        assert contents(tmp_path) == before
    with claimed(tmp_path, NAME, IDENTITY):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    with held_by_another(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert json.loads((tmp_path / HOLDER).read_text())["pid"] == other.pid
        check_new(tmp_path)
        with locked(tmp_path):
            assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
    assert contents(tmp_path) == {}


def test_a_second_writer_in_this_process_is_refused(tmp_path):
    refused = pytest.raises(ValueError, match=f"process {os.getpid()} ")
    with locked(tmp_path), refused, locked(tmp_path):
        raise AssertionError("two writers")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, SystemExit])
def test_the_lock_ends_with_its_block_however_that_ends(tmp_path, error):
    with pytest.raises(error), locked(tmp_path):
        assert (tmp_path / LOCK).is_file()
        raise error
    assert contents(tmp_path) == {}
    with locked(tmp_path):
        pass


def test_the_first_writes_the_configuration_and_later_ones_compare_it(tmp_path):
    folder = tmp_path / "new" / "one"
    with claimed(folder, NAME, IDENTITY):
        pass
    before = contents(folder)
    assert json.loads(before[NAME]) == json.loads(json.dumps(IDENTITY))
    with claimed(folder, NAME, IDENTITY):
        pass
    other = {"method": "autonat", "options": {"seed": 1, "widths": (8, 16)}}
    differs = (
        r"was made with method = 'cma', now 'autonat', options\.seed = 0, now 1 is asked for; "
        "choose another folder"
    )
    with (
        pytest.raises(ValueError, match=rf"^out: '{folder}' {differs}$"),
        claimed(folder, NAME, other),
    ):
        raise AssertionError("another's folder")
    assert contents(folder) == before


def test_a_file_with_more_in_it_is_accepted(tmp_path):
    (tmp_path / NAME).write_text(json.dumps(IDENTITY | {"of another version": 1}))
    before = contents(tmp_path)
    with claimed(tmp_path, NAME, IDENTITY):
        pass
    assert contents(tmp_path) == before


def test_only_the_first_of_many_differences_are_shown():
    stored, asked = ({f"option{i}": i + add for i in range(9)} for add in (0, 1))
    with pytest.raises(ValueError, match=r"option4 = 4, now 5 is asked for, and 4 more; choose"):
        check_same(stored, asked, "out: 'x'")
    with pytest.raises(ValueError, match=r"= 'a{50,56}\.\.\., now 1 is"):
        check_same({"long": "a" * 500}, {"long": 1}, "out: 'x'")


@pytest.mark.parametrize("name", [n for n in CONFIGURATIONS if n != NAME] + ["trials.json"])
def test_a_folder_of_something_else_is_not_touched(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with (
        pytest.raises(ValueError, match=rf"^out: .* has a {name} of something else; choose"),
        claimed(tmp_path, NAME, IDENTITY, foreign=("trials.json",)),
    ):
        raise AssertionError("another's folder")
    with pytest.raises(ValueError, match=rf"^out: .* has a {name} of something else"):
        check_unclaimed(tmp_path, foreign=("trials.json",))
    assert contents(tmp_path) == {name: "{}"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged .*; move it away"),
        ("[1]", "is damaged .*; move it away"),
        ("\udcff", "is damaged .*; move it away"),  # not UTF-8
        ('{"options": {}}', "is of something else"),
    ],
)
def test_a_configuration_that_is_none_is_named_in_one_sentence(tmp_path, text, message):
    path = tmp_path / NAME
    path.write_text(text, "utf-8", "surrogateescape")
    with (
        pytest.raises(ValueError, match=rf"^out: {path} {message}") as caught,
        claimed(tmp_path, NAME, IDENTITY),
    ):
        raise AssertionError("taken up")
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"), locked(tmp_path / "file"):
        raise AssertionError("taken")
