"""Packages of icons as npm would unpack them, with drawings of one colour."""

import json
from pathlib import Path

import pytest

from pretrain.data.icon_sets import ICON_SETS

LICENCES = {"noto": "Apache-2.0", "twemoji": "CC-BY-4.0", "fluent": "MIT"}


def rectangle(colour, box=(0, 0, 8, 8)):
    x, y, width, height = box
    return f'<path fill="{colour}" d="M{x} {y}h{width}v{height}h-{width}z"/>'


def write_package(folder, icon_set, icons, /, **changes):
    """Write what a package of 8 x 8 icons has.

    Args:
        folder: of the package.
        icon_set: which one it is.
        icons: for each name: category, codepoints, body.
        changes: of what is in icons.json, or of package.json (`version`) and info.json (`spdx`).
    """
    folder.mkdir(parents=True)
    categories = {}
    for name, (category, _, _) in icons.items():
        categories.setdefault(category, []).append(name)
    spdx = changes.pop("spdx", LICENCES[icon_set.style])
    version = changes.pop("version", icon_set.version)
    parts = {
        "package": {"name": icon_set.package, "version": version},
        "icons": {
            "prefix": icon_set.style,
            "icons": {name: {"body": body} for name, (_, _, body) in icons.items()},
            "width": 8,
            "height": 8,
            **changes,
        },
        "metadata": {"categories": categories},
        "chars": {code: name for name, (_, code, _) in icons.items()},
        "info": {
            "name": f"Set of {icon_set.style}",
            "author": {"name": f"{icon_set.style} makers", "url": f"https://{icon_set.style}.org"},
            "license": {"title": f"the {spdx}", "spdx": spdx, "url": f"https://{spdx}.org"},
        },
    }
    for part, content in parts.items():
        (folder / f"{part}.json").write_text(json.dumps(content))


def colour_of(number, style):
    """A colour that no other concept and style has; never white."""
    return (5 * number % 256, 40 + 7 * style, 200 - number)


@pytest.fixture
def packages(tmp_path) -> Path:
    """Three sets of 48 animals, and in all but the last one animal more."""
    for style, icon_set in enumerate(ICON_SETS):
        icons = {
            f"animal-{number:02}": (
                "Animals & Nature",
                f"1f{number:03x}",
                rectangle("#{:02x}{:02x}{:02x}".format(*colour_of(number, style))),
            )
            for number in range(48 + (style < 2))
        }
        icons["person"] = ("People & Body", "1f900", rectangle("#123456"))
        icons["flag-of-us"] = ("Flags", "1f901", rectangle("#123456"))
        icons["letter-q"] = ("Symbols", "1f902", rectangle("#123456"))
        write_package(tmp_path / "node_modules" / icon_set.package, icon_set, icons)
    return tmp_path
