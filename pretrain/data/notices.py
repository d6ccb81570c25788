"""Whose drawings a bundle of emoji is made of, and under which licences."""

from pathlib import Path

from pretrain.data.icon_sets import ICON_SETS, read_info

_LICENCES = Path(__file__).parent / "licences"
"""The text of each licence that asks for its text to go along."""


def notices(data: Path | None = None, image_size: int = 32) -> str:
    """The text that goes with images, or models, of the emoji: NOTICE.txt of the bundle.

    Args:
        data: see `pretrain.data.emoji.emoji`.
        image_size: height and width in pixels.

    Raises:
        ValueError: a package is missing, of another version or damaged, or has other licences than
            it should have.
    """
    entries, texts = [], []
    for icon_set in ICON_SETS:
        info = read_info(icon_set, data)
        try:
            author, licence = info["author"], info["license"]
            spdx = licence["spdx"]
            entries.append(
                f"{info['name']}, the style {icon_set.style!r}\n"
                f"  Copyright (c) {author['name']}, {author['url']}\n"
                f"  Licence: {licence['title']} ({spdx}), {licence['url']}\n"
                f"  Package: {icon_set.package} {icon_set.version}"
            )
        except (LookupError, TypeError) as error:
            raise ValueError(
                f"data: info.json of {icon_set.package} is damaged ({error!r})"
            ) from error
        text = _LICENCES / f"{spdx}.txt"
        if text.is_file():
            texts.append(f"{spdx}\n\n{text.read_text('utf-8').strip()}")
        elif spdx != "CC-BY-4.0":  # asks for its address alone, which is above
            raise ValueError(
                f"data: {icon_set.package} is licensed under {spdx!r}, allowed are 'Apache-2.0', "
                "'CC-BY-4.0' and 'MIT'"
            )
    head = (
        "The models of this bundle were trained on, and its files hold, emoji of these sets:\n\n"
        + "\n\n".join(entries)
        + f"\n\nChanges: the drawings (SVG) were drawn at {image_size} x {image_size} pixels on "
        "white, and their names made into captions. People, flags, single letters and Japanese "
        "writing were left out. What the models draw are mixtures of them, made by no author "
        "named here, none of whom endorses this work."
    )
    rule = "\n\n" + "-" * 80 + "\n\n"
    return rule.join([head, *texts]) + "\n"
