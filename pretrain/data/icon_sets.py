"""Sets of icons as npm packages of @iconify-json have them: fetched by npm, or from a folder."""

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from nat_env.storage.files import sha256, written_aside

CACHE = Path(".cache") / "nat_env" / "emoji"
"""Under the home folder: what npm fetched."""
_FETCH_SECONDS = 600


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
    """The icons of a set that are emoji, of a category, and not hidden.

    Args:
        icon_set: which package.
        data: a folder with its tarball, or with the package unpacked: in its own folder, in one
            named as the tarball is, or as npm lays it out (`node_modules/@iconify-json/noto`). By
            default the user's cache, where npm puts the tarball once.

    Raises:
        ValueError: it is not there, of another version or damaged, or npm cannot fetch it.
    """
    if data is None:
        read = _tarball_reader(_fetched(icon_set), icon_set)
    else:
        read = _reader(icon_set, data)
    try:
        found, categories, characters = (
            json.loads(read(f"{part}.json")) for part in ("icons", "metadata", "chars")
        )
        return tuple(_icons(found, categories["categories"], characters))
    except (OSError, KeyError, ValueError, TypeError, AttributeError, tarfile.TarError) as error:
        raise ValueError(
            f"data: {icon_set.package} {icon_set.version} is damaged ({error!r}); put a whole one "
            "in its place"
        ) from error


def _icons(found: dict, categories: dict[str, list[str]], characters: dict[str, str]):
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
        yield Icon(
            name,
            tuple(sorted(others.get(name, ()))),
            category[name],
            codepoints[name],
            _svg(icon["body"], *box),
        )


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
    if (data / icon_set.tarball).is_file():
        return _tarball_reader(data / icon_set.tarball, icon_set)
    own = icon_set.package.rpartition("/")[2]
    unpacked = Path(icon_set.tarball).stem
    for place in (
        Path("node_modules") / icon_set.package,
        Path(icon_set.package),
        Path(own),
        Path(unpacked) / "package",
        Path(unpacked),
    ):
        folder = data / place
        if (folder / "package.json").is_file():
            _check_version(icon_set, folder)
            return lambda name: (folder / name).read_bytes()
    raise ValueError(
        f"data: {str(data)!r} has neither {icon_set.tarball} nor "
        f"node_modules/{icon_set.package}; {_how_to_get([icon_set])}"
    )


def _check_version(icon_set: IconSet, folder: Path) -> None:
    try:
        stated = json.loads((folder / "package.json").read_text("utf-8"))
        name, version = stated["name"], stated["version"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"data: {folder / 'package.json'} is damaged ({error!r})") from error
    if (name, version) != (icon_set.package, icon_set.version):
        raise ValueError(
            f"data: {str(folder)!r} is {name} {version}, allowed is {icon_set.package} "
            f"{icon_set.version}; {_how_to_get([icon_set])}"
        )


def _tarball_reader(path: Path, icon_set: IconSet) -> Callable[[str], bytes]:
    if sha256(path) != icon_set.sha256:
        raise ValueError(
            f"data: {str(path)!r} is not the file that npm has of {icon_set.package} "
            f"{icon_set.version} (SHA-256 differs); remove it, then {_how_to_get([icon_set])}"
        )

    def read(name: str) -> bytes:
        with tarfile.open(path) as archive:
            file = archive.extractfile(f"package/{name}")
            if file is None:
                raise KeyError(name)
            return file.read()

    return read


def _how_to_get(icon_sets: Iterable[IconSet]) -> str:
    commands = "; ".join(f"npm pack {s.package}@{s.version}" for s in icon_sets)
    return f"in that folder, run: {commands}"


def _fetched(icon_set: IconSet) -> Path:
    """The tarball in the user's cache, fetched by npm if it is not there.

    Raises:
        ValueError: there is no npm, or it fails.
    """
    target = Path.home() / CACHE / icon_set.tarball
    if target.is_file():
        return target
    wanted = f"{icon_set.package}@{icon_set.version}"
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(
            f"data: got none, and npm, which fetches {wanted}, is not installed; install Node.js, "
            f"or name a folder that holds {icon_set.tarball}, made by: npm pack {wanted}"
        )
    with written_aside(target) as aside, tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", wanted, "--ignore-scripts", "--loglevel=error"]
        try:
            subprocess.run(
                command, cwd=folder, check=True, capture_output=True, timeout=_FETCH_SECONDS
            )
            shutil.copyfile(Path(folder) / icon_set.tarball, aside)
        except (OSError, subprocess.SubprocessError) as error:
            told = getattr(error, "stderr", b"") or str(error).encode()
            reason = told.decode(errors="replace").strip().splitlines()[-1:]
            raise ValueError(
                f"data: npm cannot fetch {wanted} ({' '.join(reason)}); where there is no "
                f"connection name a folder that holds {icon_set.tarball}"
            ) from error
        _tarball_reader(aside, icon_set)  # somebody's log-in page is not kept
    return target
