"""Drawings of one colour, pixel by pixel."""

import sys

import numpy as np
import pytest

from pretrain.data.drawing import draw_svg

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8">'
BLUE = (0x33, 0x66, 0x99)


@pytest.mark.parametrize("opacity", [1, 0.5])
@pytest.mark.parametrize("size", [16, 8, 4, 2])
def test_a_rectangle_is_drawn_on_white_and_averaged(size, opacity):
    svg = f'{HEAD}<rect x="2" y="1" width="3" height="5" fill="#336699" opacity="{opacity}"/></svg>'
    covered = np.zeros((16, 16))
    covered[2:12, 4:10] = opacity  # in halves of the drawing's unit
    side = 16 // size
    covered = covered.reshape(size, side, size, side).mean(axis=(1, 3))
    expected = [255 + covered * (colour - 255) for colour in BLUE]
    drawn = draw_svg(svg, size)
    assert drawn.shape == (3, size, size) and drawn.dtype == np.uint8
    np.testing.assert_allclose(drawn, expected, atol=1)


def test_letters_are_left_to_no_font_of_the_system():
    assert (draw_svg(f'{HEAD}<text x="0" y="8">A</text></svg>', 8) == 255).all()


@pytest.mark.parametrize("svg", ["", "text", "<svg", f"{HEAD}<path></svg>", "<html></html>"])
def test_what_is_no_svg_is_refused(svg):
    with pytest.raises(ValueError):
        draw_svg(svg, 8)


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ImportError, match=r"resvg-py: pip install 'nat-env\[pretrain\]'"):
        draw_svg(HEAD + "</svg>", 8)
