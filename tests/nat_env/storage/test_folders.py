"""Folders are written whole or not at all, whatever was there before."""

import pytest

from nat_env.storage.claims import locked
from nat_env.storage.folders import ASIDE, check_new, written_folder


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write(aside):
    (aside / "parts").mkdir()
    (aside / "parts" / "a").write_text("new a")
    (aside / "about").write_text("new")


def test_a_new_folder_appears_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    with written_folder(out, "about") as aside:
        write(aside)
        assert not (out / "about").exists() and not (out / "parts").exists()
    assert contents(out) == {"about": "new", "parts/a": "new a"}
    assert sorted(path.name for path in out.iterdir()) == ["about", "parts"]


def test_of_an_error_nothing_is_left_and_what_was_there_stays(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("deep/out", "empty"):
        with (
            pytest.raises(OSError, match=r"^cannot write .*make room on its disk"),
            written_folder(tmp_path / name, "about") as aside,
        ):
            write(aside)
            raise OSError(28, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert list((tmp_path / "empty").iterdir()) == []
    with pytest.raises(KeyboardInterrupt), written_folder(tmp_path / "out", "about"):
        raise KeyboardInterrupt
    assert not (tmp_path / "out").exists()


def test_named_parts_are_replaced_and_the_rest_stays(tmp_path):
    for name in ("parts", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "b").write_text("old b")
    (tmp_path / "about").write_text("old")
    (tmp_path / "mine").write_text("mine")
    before = contents(tmp_path)
    names = ("parts", "old", "never there", "about")
    with pytest.raises(ZeroDivisionError), written_folder(tmp_path, "about", names) as aside:
        write(aside)
        raise ZeroDivisionError
    assert contents(tmp_path) == before
    with written_folder(tmp_path, "about", names) as aside:
        write(aside)
    assert contents(tmp_path) == {"about": "new", "parts/a": "new a", "mine": "mine"}


def test_one_that_writes_keeps_another_out(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(ValueError, match=r"^out: .* is in use"),
        written_folder(tmp_path, "about", argument="out"),
    ):
        raise AssertionError("two writers")


def test_a_folder_is_new_but_for_what_a_killed_process_has_left(tmp_path):
    check_new(tmp_path / "nowhere")
    (tmp_path / f"{ASIDE}abcdefgh").mkdir()
    (tmp_path / f"{ASIDE}abcdefgh" / "about").write_text("half of it")
    with locked(tmp_path):
        check_new(tmp_path)
    with written_folder(tmp_path, "about") as aside:
        write(aside)
    assert contents(tmp_path) == {"about": "new", "parts/a": "new a"}
    for full in (tmp_path, tmp_path / "about"):
        with pytest.raises(ValueError, match=r"^out: got .*, allowed is a new or empty folder$"):
            check_new(full, "out")
