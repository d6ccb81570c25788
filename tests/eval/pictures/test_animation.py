"""Sheets of samples: where each is, and names that fit."""

import numpy as np
import pytest
from PIL import Image

from eval.pictures.animation import columns_of, named_sheet


@pytest.mark.parametrize(
    ("count", "classes", "most", "columns"),
    [(60, 3, 20, 20), (63, 3, 20, 8), (2000, 1000, 20, 45), (1, 1, 10, 1), (100, 100, 10, 10)],
)
def test_columns(count, classes, most, columns):
    assert columns_of(count, classes, most) == columns


@pytest.mark.parametrize("classes", [1, 2, 7, 10, 50])
def test_the_sheet_of_an_animation_has_ten_rows_and_columns_at_most(classes):
    for count in range(1, 101):
        columns = columns_of(count, classes, 10)
        assert columns <= 10 and -(-count // columns) <= 10


def test_a_long_name_stays_above_its_sample():
    frames = np.full((2, 20, 40, 3), 128, np.uint8)
    sheet = np.asarray(named_sheet(frames, ["an endless name of a class", ""], 2))
    for line in range(3):
        above = sheet[8 + 16 * line : 24 + 16 * line]
        assert (above[:, 8:48] < 128).any() and (above[:, 48:] == 255).all()
    assert sheet.shape == (8 + 3 * 16 + 20 + 8, 8 + 2 * 48, 3)
    short = np.asarray(named_sheet(frames, ["class", "endlessness"], 2))
    assert short.shape == (8 + 44, 8 + 2 * 48, 3)


def test_a_title_is_whole_on_a_narrow_sheet():
    frames = np.full((1, 8, 8, 3), 128, np.uint8)
    wide = named_sheet(frames, [""], 1, "after step 11 of 12; 100 of 10000 samples")
    assert isinstance(wide, Image.Image) and wide.width > 200
    assert (np.asarray(wide)[:, -4:] == 255).all()
