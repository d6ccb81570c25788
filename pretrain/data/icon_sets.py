"""Sets of icons as npm packages of @iconify-json have them: fetched by npm, or from a folder."""

import gzip
import json
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nat_env.storage.files import sha256, written_aside

CACHE = Path(".cache") / "nat_env" / "emoji"
"""Under the home folder: what npm fetched."""
_FETCH_SECONDS = 600
_DAMAGES = (OSError, EOFError, LookupError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True)
class IconSet:
    """A package of which one version is meant."""

    style: str
    """The word for it in captions."""
    package: str
    version: str
    sha256: str
    """Of the tarball that npm gives."""

    @property
    def tarball(self) -> str:
        """The name that `npm pack` gives its file.

        Example:
            >>> IconSet("noto", "@iconify-json/noto", "1.2.9", "").tarball
            'iconify-json-noto-1.2.9.tgz'
        """
        return f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


ICON_SETS = (
    IconSet(
        "noto",
        "@iconify-json/noto",
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    ),
    IconSet(
        "twemoji",
        "@iconify-json/twemoji",
        "1.2.5",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
    ),
    IconSet(
        "fluent",
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
)
"""Colour emoji, freely licensed."""


@dataclass(frozen=True)
class Icon:
    """One drawing of a set."""

    name: str
    """Words joined by hyphens: "red-apple"."""
    other_names: tuple[str, ...]
    category: str
    codepoints: str
    """In hexadecimal, joined by hyphens: "1f34e"."""
    svg: str


def read_icons(icon_set: IconSet, data: Path | None = None) -> tuple[Icon, ...]:
    """The icons of a set that have a character and a category, and are not hidden.

    Args:
        icon_set: which package.
        data: a folder with its tarball, or with the package unpacked: in a folder of the tarball's
            name or of the package's own, or as npm lays it out
            (`node_modules/@iconify-json/noto`). By default the user's cache, where npm puts the
            tarball once.

    Raises:
        ValueError: it is not there, of another version or damaged, or npm cannot fetch it.
    """
    found, metadata, characters = (
        _part(icon_set, data, part) for part in ("icons", "metadata", "chars")
    )
    try:
        return tuple(_icons(found, metadata["categories"], characters))
    except _DAMAGES as error:
        raise _damaged(icon_set, error) from error


def read_info(icon_set: IconSet, data: Path | None = None) -> dict[str, Any]:
    """What the package says of itself: name, author, licence.

    Args:
        icon_set: which package.
        data: see `read_icons`.

    Raises:
        ValueError: as `read_icons` does.
    """
    return _part(icon_set, data, "info")


def _part(icon_set: IconSet, data: Path | None, part: str) -> Any:
    read = _reader(icon_set, data) if data is not None else _from_tarball(_fetched(icon_set))
    try:
        return json.loads(read(f"{part}.json"))
    except (*_DAMAGES, tarfile.TarError, zlib.error) as error:
        raise _damaged(icon_set, error) from error


def _damaged(icon_set: IconSet, error: Exception) -> ValueError:
    return ValueError(
        f"data: the files of {icon_set.package} {icon_set.version} are damaged ({error!r}); put "
        f"whole ones in their place: npm pack {icon_set.package}@{icon_set.version}"
    )


def _icons(
    found: dict[str, Any], categories: dict[str, list[str]], characters: dict[str, str]
) -> Iterator[Icon]:
    category = {name: key for key, names in categories.items() for name in names}
    codepoints = {name: code for code, name in characters.items()}
    others: dict[str, list[str]] = {}
    for name, alias in found.get("aliases", {}).items():
        if alias.keys() == {"parent"}:  # else it is turned or mirrored
            others.setdefault(alias["parent"], []).append(name)
    for name, icon in sorted(found["icons"].items()):
        if icon.get("hidden") or name not in category or name not in codepoints:
            continue
        box = [icon.get(key, found.get(key, 0)) for key in ("left", "top", "width", "height")]
        other_names = tuple(sorted(others.get(name, ())))
        yield Icon(name, other_names, category[name], codepoints[name], _svg(icon["body"], *box))


def _svg(body: str, left: float, top: float, width: float, height: float) -> str:
    """A drawing of its own, in a square around the icon's box."""
    side = max(width, height)
    left, top = left - (side - width) / 2, top - (side - height) / 2
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left:g} {top:g} {side:g} {side:g}">{body}</svg>'
    )


def _reader(icon_set: IconSet, data: Path) -> Callable[[str], bytes]:
    """What reads a file of the package by its name, wherever in `data` that is."""
    if not data.is_dir():
        raise ValueError(f"data: {str(data)!r} is not a folder")
    tarball, unpacked = data / icon_set.tarball, data / Path(icon_set.tarball).stem
    wanted = f"{icon_set.package}@{icon_set.version}"
    if tarball.is_file():
        if sha256(tarball) != icon_set.sha256:
            raise ValueError(
                f"data: {str(tarball)!r} is not the file that npm has of {wanted} (SHA-256 "
                f"differs); remove it, then in its folder: npm pack {wanted}"
            )
        return _from_tarball(tarball)
    for folder in (
        data / "node_modules" / icon_set.package,
        data / icon_set.package,
        data / icon_set.package.rpartition("/")[2],
        unpacked / "package",
        unpacked,
    ):
        if (folder / "package.json").is_file():
            _check_version(icon_set, folder)
            return lambda name: (folder / name).read_bytes()
    raise ValueError(
        f"data: {str(data)!r} has neither {icon_set.tarball} nor node_modules/{icon_set.package}; "
        f"in that folder: npm pack {wanted}"
    )


def _check_version(icon_set: IconSet, folder: Path) -> None:
    try:
        stated = json.loads((folder / "package.json").read_text("utf-8"))
        name, version = stated["name"], stated["version"]
    except _DAMAGES as error:
        raise _damaged(icon_set, error) from error
    if (name, version) != (icon_set.package, icon_set.version):
        raise ValueError(
            f"data: {str(folder)!r} is {name} {version}, allowed is {icon_set.package} "
            f"{icon_set.version}; remove it, then in {str(folder.parent)!r}: "
            f"npm pack {icon_set.package}@{icon_set.version}"
        )


def _from_tarball(path: Path) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        with gzip.GzipFile(path) as raw, tarfile.TarFile(fileobj=raw) as archive:
            file = archive.extractfile(f"package/{name}")
            if file is None:
                raise KeyError(name)
            return file.read()

    return read


def _fetched(icon_set: IconSet) -> Path:
    """The tarball in the user's cache, fetched by npm if it is not there.

    Raises:
        ValueError: there is no npm, or it fails, or gives another file.
    """
    target = Path.home() / CACHE / icon_set.tarball
    if target.is_file() and sha256(target) == icon_set.sha256:
        return target
    wanted = f"{icon_set.package}@{icon_set.version}"
    remedy = f"name a folder that holds {icon_set.tarball}, made elsewhere by: npm pack {wanted}"
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(
            f"data: got none, and npm, which fetches {wanted}, is not installed; install Node.js, "
            f"or {remedy}"
        )
    with written_aside(target) as aside, tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", wanted, "--ignore-scripts", "--loglevel=error"]
        try:
            subprocess.run(
                command, cwd=folder, check=True, capture_output=True, timeout=_FETCH_SECONDS
            )
            shutil.copyfile(Path(folder) / icon_set.tarball, aside)
        except (OSError, subprocess.SubprocessError) as error:
            told = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace")
            raise ValueError(
                f"data: npm cannot fetch {wanted} ({told.strip()}); {remedy}"
            ) from error
        if sha256(aside) != icon_set.sha256:  # somebody's log-in page, or other data
            raise ValueError(
                f"data: what npm gave is not its own file of {wanted} (SHA-256 differs); {remedy}"
            )
    return target
