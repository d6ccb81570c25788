"""The emoji of three small packages: images beside their captions, what is held out, notices."""

import json
import sys
from collections import Counter

import pytest
import torch

from pretrain.data.emoji import emoji, held_out
from pretrain.data.icon_sets import ICON_SETS
from pretrain.data.notices import notices

from .conftest import colour_of, rectangle, write_package


def folder_of(packages, style):
    return packages / "node_modules" / ICON_SETS[style].package


def test_every_image_is_what_its_caption_says(packages):
    data = emoji(packages, 8)
    assert data.images.shape == (48 * 3 + 2, 3, 8, 8)
    assert data.styles == ("noto", "twemoji", "fluent")
    assert data.categories == ("Animals & Nature",)  # no people, flags and letters
    captions = set()
    for row in range(len(data.images)):
        number, style = int(data.concept[row]), int(data.style[row])
        name = f"an animal {number:02}"
        assert data.captions[row] == f"{name}, {data.styles[style]} style"
        assert data.descriptions[row] == (name, name[3:])
        colours = data.images[row].flatten(1).unique(dim=1)
        assert colours.flatten().tolist() == list(colour_of(number, style))
        captions.add(data.captions[row])
    assert len(captions) == len(data.images)
    assert data.concept.tolist() != sorted(data.concept.tolist())  # the first few are a fair part


def test_the_same_emoji_on_every_run(packages):
    one, two = emoji(packages, 8), emoji(packages, 8)
    assert one.captions == two.captions
    for field in ("images", "style", "category", "concept", "flips", "split"):
        assert torch.equal(getattr(one, field), getattr(two, field))


def test_what_is_held_out_in_small(packages):
    data = emoji(packages, 8)
    assert torch.bincount(data.split.long()).tolist() == [146 - 4 * 3 - 12, 12, 4 * 3]
    assert (data.split[data.concept == 48] == 0).all()  # it has two styles alone


def test_what_is_held_out_by_a_loop():
    concept, style = [], []
    for number in range(600):
        for s in range(3 if number % 7 else 2):
            concept.append(number)
            style.append(s)
    order = torch.randperm(len(concept), generator=torch.Generator().manual_seed(1))
    concept, style = torch.tensor(concept)[order], torch.tensor(style)[order]
    split = held_out(concept, style, torch.Generator().manual_seed(0))
    of_concept = {number: Counter() for number in range(600)}
    styles = Counter()
    for number, s, part in zip(concept.tolist(), style.tolist(), split.tolist(), strict=True):
        of_concept[number][part] += 1
        styles[s] += part == 1
    counts = Counter(tuple(sorted(parts.items())) for parts in of_concept.values())
    assert sum(styles.values()) == 128 and min(styles.values()) > 25
    assert counts == {
        ((0, 2),): 86,  # of those that have two styles none is held out
        ((2, 3),): 42,
        ((0, 2), (1, 1)): 128,
        ((0, 3),): 514 - 42 - 128,
    }
    again = held_out(concept, style, torch.Generator().manual_seed(0))
    other = held_out(concept, style, torch.Generator().manual_seed(1))
    assert torch.equal(split, again) and not torch.equal(split, other)


def test_at_most_100_concepts_and_300_styles_are_held_out():
    concept = torch.arange(1400).repeat_interleave(3)
    split = held_out(concept, torch.arange(3).repeat(1400), torch.Generator().manual_seed(0))
    assert torch.bincount(split.long()).tolist() == [4200 - 600, 300, 300]
    assert not set(concept[split == 1].tolist()) & set(concept[split == 2].tolist())
    assert len(concept[split == 1].unique()) == 300


def test_the_sets_are_matched_by_character_and_all_their_names_are_wordings(tmp_path):
    red, box = rectangle("#ff0000"), "Symbols"
    for style, name in enumerate(("fox", "fox", "fox-face")):
        icons = {
            name: ("Animals & Nature", "1f98a", red),
            "up-arrow": (box, "2b06", red),
            "wolf": ("Animals & Nature", "1f43a", red),
        }
        aliases = {"red-fox": {"parent": name}, "up": {"parent": "up-arrow"}} if style == 1 else {}
        if style == 2:
            aliases = {"up": {"parent": "wolf"}}  # of two concepts, so of none
        write_package(
            tmp_path / "node_modules" / ICON_SETS[style].package,
            ICON_SETS[style],
            icons,
            aliases=aliases,
        )
    data = emoji(tmp_path, 4)
    said = dict(zip(data.captions, data.descriptions, strict=True))
    assert len(said) == 9
    for style in data.styles:
        assert said[f"a fox, {style} style"] == (
            "a fox",
            "fox",
            "a fox face",
            "fox face",
            "a red fox",
            "red fox",
        )
        assert said[f"an up arrow, {style} style"] == ("an up arrow", "up arrow")
        assert said[f"a wolf, {style} style"] == ("a wolf", "wolf")
    flips = dict(zip(data.captions, data.flips.tolist(), strict=True))
    assert flips["a fox, noto style"] and not flips["an up arrow, noto style"]


def test_damaged_drawings_are_left_out_and_counted_once(packages):
    path = folder_of(packages, 1) / "icons.json"
    found = json.loads(path.read_text())
    bodies = {"animal-03": "<path", "animal-04": "", "animal-05": '<path d="nonsense"/>'}
    for name, body in bodies.items():
        found["icons"][name]["body"] = body
    path.write_text(json.dumps(found))
    with pytest.warns(UserWarning) as warned:
        data = emoji(packages, 8)
    (warning,) = warned
    assert str(warning.message) == (
        "3 of 146 drawings are damaged and left out: animal-03 (twemoji), animal-04 (twemoji), "
        "animal-05 (twemoji)"
    )
    assert warning.filename == __file__
    assert len(data.images) == len(data.captions) == 143
    assert not any(
        f"an animal 0{n}, twemoji style" in data.captions or (data.split[data.concept == n]).any()
        for n in (3, 4, 5)
    )


def test_drawings_that_are_all_damaged_are_refused(tmp_path):
    for icon_set in ICON_SETS:
        folder = tmp_path / "node_modules" / icon_set.package
        write_package(folder, icon_set, {"fox": ("Animals & Nature", "1f98a", "<path")})
    with pytest.raises(ValueError, match=r"^data: none of the 3 drawings can be read"):
        emoji(tmp_path)


def test_bad_arguments_are_refused_before_any_work(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"^image_size: got 0, allowed is 1 or more"):
        emoji(tmp_path, 0)
    with pytest.raises(ValueError, match=r"^data: .*neither iconify-json-noto"):
        emoji(tmp_path)
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ImportError, match=r"resvg-py: pip install"):
        emoji(tmp_path)


def test_the_notices_name_authors_licences_and_changes_and_hold_the_licences_that_ask_so(packages):
    text = notices(packages, 48)
    for style, package, spdx in (
        ("noto", "@iconify-json/noto 1.2.9", "Apache-2.0"),
        ("twemoji", "@iconify-json/twemoji 1.2.5", "CC-BY-4.0"),
        ("fluent", "@iconify-json/fluent-emoji-flat 1.2.6", "MIT"),
    ):
        assert (
            f"Set of {style}, the style '{style}'\n"
            f"  Copyright (c) {style} makers, https://{style}.org\n"
            f"  Licence: the {spdx} ({spdx}), https://{spdx}.org\n"
            f"  Package: {package}\n"
        ) in text
    assert "48 x 48 pixels on white" in text
    for line in (
        "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION",
        "Version 2.0, January 2004",
        "Permission is hereby granted, free of charge, to any person obtaining a copy",
    ):
        assert text.count(line) == 1


def test_a_licence_that_nobody_checked_is_refused(tmp_path):
    write_package(tmp_path / "noto", ICON_SETS[0], {}, spdx="GPL-3.0")
    with pytest.raises(ValueError, match=r"^data: @iconify-json/noto is licensed under 'GPL-3.0'"):
        notices(tmp_path)
