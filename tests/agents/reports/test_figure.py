"""Text on pictures: names are shown as they are."""

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from agents.reports.figure import heading, new_figure, save, write
from agents.reports.quantities import save_policy_card, schedule_actions
from nat_env.schedules import heuristic_schedule

NAMES = ("$x$", r"$\oops{$", "a_b^c")
"""Two formulas, one of them broken, and what looks like one."""


def drawn():
    """Names wherever matplotlib may put them."""
    figure = new_figure(500, 400)
    heading(figure, *NAMES[:2], 20)
    write(figure, 20, 90, NAMES[1], size=10)
    figure.subplots_adjust(top=0.6, bottom=0.3)
    axes = figure.subplots()
    for name in NAMES:
        axes.plot([0, 1], label=name)
    axes.set_title(NAMES[0])
    axes.set_xlabel(NAMES[1])
    axes.set_xticks([0, 1], NAMES[:2])
    axes.legend()
    figure.legend(axes.lines, NAMES, loc="lower center")
    return figure


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_all_text_is_literal(tmp_path):
    """As where matplotlib is told beforehand to know no formulas."""
    save(drawn(), tmp_path / "ours.png")
    with matplotlib.rc_context({"text.parse_math": False}):
        drawn().savefig(tmp_path / "literal.png")
    np.testing.assert_array_equal(pixels(tmp_path / "ours.png"), pixels(tmp_path / "literal.png"))


def test_a_bundle_may_be_called_anything(tmp_path):
    save_policy_card(tmp_path / "card.png", schedule_actions(heuristic_schedule(2)), NAMES[1])
    assert pixels(tmp_path / "card.png").std() > 10


@pytest.fixture
def square_font(tmp_path, monkeypatch):
    """One with a single character, a full square, in place of those that may not be here."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord("字"): "square"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    font.setupHorizontalMetrics({name: (1000, 0) for name in (".notdef", "square")})
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupNameTable({"familyName": "Square", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "square.ttf")
    fonts = font_manager.fontManager
    monkeypatch.setattr(fonts, "ttflist", list(fonts.ttflist))
    fonts.addfont(tmp_path / "square.ttf")
    monkeypatch.setattr("agents.reports.figure.EAST_ASIAN_FONTS", ("No such", "Square"))


def test_a_character_comes_from_a_font_that_has_it(tmp_path, square_font):
    figure = new_figure(100, 100)
    write(figure, 10, 80, "字", size=36)  # 50 pixels
    save(figure, tmp_path / "out.png")  # a missing one would be warned of
    assert (pixels(tmp_path / "out.png") == 0).all(axis=2).sum() == pytest.approx(2500, rel=0.1)
