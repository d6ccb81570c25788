"""The course of a training, and precision against recall: what is drawn where."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import eval.pictures.curves
from eval.pictures.curves import save_learning_curves, save_precision_recall, save_training


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """The figures that are saved from here on."""
    saved = []
    save = eval.pictures.curves.save

    def spy(figure, path):
        saved.append(figure)
        save(figure, path)

    monkeypatch.setattr(eval.pictures.curves, "save", spy)
    return saved


def test_a_training_is_its_distances_and_its_pictures(tmp_path, figures):
    history = [
        {"round": 5 * i, "trajectories": 50 * i, "frechet_distance": 3.0 - 0.5 * i}
        for i in range(6)
    ]
    for row in history:
        shade = 40 * row["round"] // 5
        Image.new("L", (60, 30), shade).save(tmp_path / f"round_{row['round']:05d}.png")
    save_training(tmp_path / "out.png", history, tmp_path, "about")
    (figure,) = figures
    chart, *stages = figure.axes
    line = chart.lines[0].get_xydata()
    np.testing.assert_array_equal(line[:, 0], [0, 50, 100, 150, 200, 250])
    np.testing.assert_array_equal(line[:, 1], [3.0, 2.5, 2.0, 1.5, 1.0, 0.5])
    shown = [int(axes.images[0].get_array()[0, 0, 0]) for axes in stages]
    assert shown == [0, 80, 120, 200]  # rounds 0, 10, 15, 25: first, last, and evenly between
    assert "250 trajectories, FD 0.50" in {text.get_text() for text in figure.texts}
    with Image.open(tmp_path / "out.png") as picture:
        # A pixel of a picture is one of the file, and none covers another.
        pixels = np.asarray(picture.convert("L"))
    for shade in (80, 120, 200):
        assert (pixels == shade).sum() >= 60 * 30 * 0.95


def test_a_short_training_shows_what_there_is(tmp_path, figures):
    Image.new("L", (60, 30)).save(tmp_path / "round_00000.png")
    history = [{"round": 0, "trajectories": 0, "frechet_distance": 1.0}]
    save_training(tmp_path / "out.png", history, tmp_path, "about")
    assert len(figures[0].axes) == 2


def test_points_are_the_seeds_and_their_mean(tmp_path, figures):
    about = {"judge": "a"}
    rows = [
        about | {"policy": "one", "seed": 0, "recall": 0.2, "precision": 0.6},
        about | {"policy": "one", "seed": 1, "recall": 0.4, "precision": 0.8},
        about | {"policy": "two", "seed": 0, "recall": 0.9, "precision": 0.1},
        about | {"policy": "three", "seed": 0},
        {"judge": "b", "policy": "one", "seed": 0, "recall": 0.5, "precision": 0.5},
        {"judge": "b", "policy": "two", "seed": 0, "recall": 0.7, "precision": 0.5},
    ]
    save_precision_recall(tmp_path / "out.png", rows, "bundle")
    first, second = figures[0].axes
    assert (first.get_title("left"), second.get_title("left")) == ("a", "b")
    seeds, mean, *two = (points.get_offsets() for points in first.collections)
    np.testing.assert_allclose(seeds, [[0.2, 0.6], [0.4, 0.8]])
    np.testing.assert_allclose(mean, [[0.3, 0.7]])
    np.testing.assert_allclose(two[0], [[0.9, 0.1]])
    legend = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert legend == ["one", "two"]


def test_a_learning_curve_is_the_mean_over_seeds_within_the_lowest_and_the_highest(
    tmp_path, figures
):
    def history(*distances):
        return [{"trajectories": 8 * i, "frechet_distance": d} for i, d in enumerate(distances)]

    short = history(3.0, 2.0)  # an evaluation that one seed does not have is left out
    histories = {"one": [history(1.0, 4.0, 0.5), short], "two": [history(2.0, 1.0)]}
    save_learning_curves(tmp_path / "out.png", histories, 0.7, "about")
    axes = figures[0].axes[0]
    level, one, two = axes.lines
    assert set(level.get_ydata()) == {0.7}
    np.testing.assert_array_equal(one.get_xydata(), [[0, 2.0], [8, 3.0]])
    np.testing.assert_array_equal(two.get_xydata(), [[0, 2.0], [8, 1.0]])
    band = {tuple(corner) for corner in axes.collections[0].get_paths()[0].vertices}
    assert band == {(0, 1.0), (0, 3.0), (8, 2.0), (8, 4.0)}
    legend = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert legend == ["heuristic (0.70)", "one (3.00)", "two (1.00)"]
    assert one.get_color() != two.get_color()


@pytest.mark.parametrize("highest", [1.0, 30.0])
def test_labels_of_the_distances_do_not_overlap(tmp_path, figures, highest):
    rows = [{"trajectories": 8 * i, "frechet_distance": d} for i, d in enumerate((0.7, highest))]
    save_learning_curves(tmp_path / "out.png", {"one": [rows]}, 0.5, "about")
    axis = figures[0].axes[0].yaxis
    low, high = figures[0].axes[0].get_ylim()
    boxes = [
        label.get_window_extent()
        for ticks in (axis.get_major_ticks(), axis.get_minor_ticks())
        for tick in ticks
        if (label := tick.label1).get_text() and low <= tick.get_loc() <= high
    ]
    boxes.sort(key=lambda box: box.y0)
    assert len(boxes) >= 4
    assert all(lower.y1 <= upper.y0 for lower, upper in pairwise(boxes))
