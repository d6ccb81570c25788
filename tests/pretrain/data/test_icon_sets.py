"""Where sets of icons come from, what is read of them, and what is refused."""

import hashlib
import json
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from pretrain.data.icon_sets import ICON_SETS, Icon, read_icons, read_info

from .conftest import rectangle, write_package

NOTO = ICON_SETS[0]
APPLE = ("Food & Drink", "1f34e", rectangle("#ff0000"))


def packed(folder, icon_set, icons):
    """A tarball in `folder`, and the set that means it."""
    write_package(folder / "package", icon_set, icons)
    path = folder / icon_set.tarball
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder / "package", "package")
    shutil.rmtree(folder / "package")
    return replace(icon_set, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    return tmp_path / "home"


@pytest.mark.parametrize(
    "place",
    [
        "node_modules/@iconify-json/noto",
        "@iconify-json/noto",
        "noto",
        "iconify-json-noto-1.2.9/package",
        "iconify-json-noto-1.2.9",
    ],
)
def test_an_unpacked_package_is_found_and_read(tmp_path, place):
    write_package(tmp_path / place, NOTO, {"red-apple": APPLE})
    (icon,) = read_icons(NOTO, tmp_path)
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 8 8">{APPLE[2]}</svg>'
    )
    assert icon == Icon("red-apple", (), "Food & Drink", "1f34e", svg)
    assert read_info(NOTO, tmp_path)["name"] == "Set of noto"


def test_a_tarball_is_read_as_it_is(tmp_path):
    icon_set = packed(tmp_path, NOTO, {"red-apple": APPLE})
    assert [icon.name for icon in read_icons(icon_set, tmp_path)] == ["red-apple"]
    assert [path.name for path in tmp_path.iterdir()] == ["iconify-json-noto-1.2.9.tgz"]


def test_what_is_hidden_or_has_no_category_or_character_is_no_icon(tmp_path):
    body = {"body": rectangle("#00ff00")}
    icons = {
        "kept": body | {"top": 1, "height": 4},
        "hidden": body | {"hidden": True},
        "uncategorised": body,
        "no-character": body,
    }
    aliases = {
        "other": {"parent": "kept"},
        "another": {"parent": "kept"},
        "mirrored": {"parent": "kept", "hFlip": True},
    }
    named = {name: APPLE for name in ("kept", "hidden", "no-character")}
    write_package(tmp_path / "noto", NOTO, named, icons=icons, aliases=aliases)
    (tmp_path / "noto" / "chars.json").write_text('{"1": "kept", "2": "hidden", "3": "other"}')
    (icon,) = read_icons(NOTO, tmp_path)
    assert (icon.name, icon.codepoints, icon.other_names) == ("kept", "1", ("another", "other"))
    assert 'viewBox="0 -1 8 8"' in icon.svg  # rows 1 to 4 in the middle of eight


def damages():
    def version(folder):
        write_package(folder / "noto", NOTO, {"red-apple": APPLE}, version="1.2.8")

    def other_bytes(folder):
        (folder / NOTO.tarball).write_text("<html>")

    def no_json(folder):
        write_package(folder / "noto", NOTO, {"red-apple": APPLE})
        (folder / "noto" / "icons.json").write_text('{"icons": {')

    def no_file(folder):
        write_package(folder / "noto", NOTO, {"red-apple": APPLE})
        (folder / "noto" / "chars.json").unlink()

    def no_body(folder):
        write_package(folder / "noto", NOTO, {"red-apple": APPLE}, icons={"red-apple": {}})

    return {
        "nothing": (
            lambda folder: None,
            r"has neither iconify-json-noto-1.2.9.tgz nor node_modules/@iconify-json/noto; in "
            r"that folder: npm pack @iconify-json/noto@1.2.9$",
        ),
        "no folder": (lambda folder: folder.rmdir(), r"is not a folder$"),
        "version": (version, r"is @iconify-json/noto 1.2.8, allowed is @iconify-json/noto 1.2.9"),
        "other bytes": (other_bytes, r"noto-1.2.9.tgz' is not the file .*SHA-256 differs"),
        "no json": (no_json, r"the files of @iconify-json/noto 1.2.9 are damaged \(JSONDecode"),
        "no file": (no_file, r"are damaged \(FileNotFoundError"),
        "no body": (no_body, r"are damaged \(KeyError\('body'"),
    }


@pytest.mark.parametrize("what", damages())
def test_what_is_wrong_with_a_folder_is_said(tmp_path, what):
    damage, message = damages()[what]
    (tmp_path / "data").mkdir()
    damage(tmp_path / "data")
    with pytest.raises(ValueError, match=rf"^data: .*{message}"):
        read_icons(NOTO, tmp_path / "data")


@pytest.mark.parametrize("kept", [0, 20, 200])
def test_a_tarball_that_ends_early_is_damaged(tmp_path, kept):
    icon_set = packed(tmp_path, NOTO, {"red-apple": APPLE})
    path = tmp_path / NOTO.tarball
    path.write_bytes(path.read_bytes()[:kept])
    icon_set = replace(icon_set, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match=r"^data: the files of .* are damaged .*npm pack @iconify"):
        read_icons(icon_set, tmp_path)


def test_npm_fetches_by_name_and_version_without_a_shell_and_once(tmp_path, home, monkeypatch):
    icon_set = packed(tmp_path, NOTO, {"red-apple": APPLE})
    asked = []

    def npm(command, cwd, **options):
        assert isinstance(command, list) and not options.get("shell") and options["check"]
        asked.append(command[:3])
        shutil.copy(tmp_path / NOTO.tarball, cwd)

    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(subprocess, "run", npm)
    for _ in range(2):
        assert [icon.name for icon in read_icons(icon_set)] == ["red-apple"]
    assert asked == [["/bin/npm", "pack", "@iconify-json/noto@1.2.9"]]
    (cached,) = home.rglob("*.tgz")
    cached.write_text("damaged meanwhile")
    assert [icon.name for icon in read_icons(icon_set)] == ["red-apple"]
    assert len(asked) == 2


def test_without_npm_it_is_said_what_to_do(home, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(
        ValueError,
        match=r"^data: got none, and npm, .* is not installed; install Node.js, or name a folder "
        r"that holds iconify-json-noto-1.2.9.tgz, made elsewhere by: npm pack @iconify-json/noto@",
    ):
        read_icons(NOTO)
    assert not home.exists()


def test_what_npm_says_is_passed_on_and_nothing_kept(home, monkeypatch):
    def fails(command, **options):
        raise subprocess.CalledProcessError(1, command, stderr=b"npm error code ENOTFOUND\n")

    def gives_another(command, cwd, **options):
        (Path(cwd) / NOTO.tarball).write_text("<html>log in first</html>")

    def is_slow(command, **options):
        raise subprocess.TimeoutExpired(command, 600)

    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    for npm, message in (
        (fails, r"npm cannot fetch @iconify-json/noto@1.2.9 \(npm error code ENOTFOUND\); name a"),
        (gives_another, r"what npm gave is not its own file .*SHA-256 differs"),
        (is_slow, r"npm cannot fetch @iconify-json/noto@1.2.9 \(.*timed out after 600 seconds"),
        (lambda command, **options: None, r"npm cannot fetch .*No such file"),
    ):
        monkeypatch.setattr(subprocess, "run", npm)
        with pytest.raises(ValueError, match=rf"^data: {message}"):
            read_icons(NOTO)
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_the_three_packages_are_pinned():
    assert [json.dumps([s.style, s.package, s.version]) for s in ICON_SETS] == [
        '["noto", "@iconify-json/noto", "1.2.9"]',
        '["twemoji", "@iconify-json/twemoji", "1.2.5"]',
        '["fluent", "@iconify-json/fluent-emoji-flat", "1.2.6"]',
    ]
    assert all(len(bytes.fromhex(s.sha256)) == 32 for s in ICON_SETS)
