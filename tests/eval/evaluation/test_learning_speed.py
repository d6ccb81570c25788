"""Images to a share of a training's gain, against a fine grid of interpolated distances."""

import numpy as np
import pytest

from eval.evaluation.learning_speed import images_to_gain, learning_speed_table


def history(trajectories, distances):
    return [
        {"trajectories": n, "frechet_distance": d}
        for n, d in zip(trajectories, distances, strict=True)
    ]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_it_is_the_first_image_at_which_the_interpolated_distance_is_low_enough(share):
    rng = np.random.default_rng(0)
    for _ in range(20):
        trajectories = np.cumsum(rng.integers(1, 500, 8))
        distances = rng.uniform(0, 2, 8)
        distances[0] = distances[-1] + rng.uniform(0.1, 1)
        fine = np.arange(trajectories[0], trajectories[-1] + 0.005, 0.01)
        level = distances[0] - share * (distances[0] - distances[-1])
        expected = fine[np.interp(fine, trajectories, distances) <= level + 1e-9][0]
        found = images_to_gain(history(trajectories, distances), share)
        assert found == pytest.approx(expected, abs=0.011)


def test_a_training_that_gains_nothing_has_no_such_number():
    worse, same = history((0, 8, 16), (1.0, 0.5, 1.1)), history((0, 8), (1.0, 1.0))
    assert images_to_gain(worse) is None
    assert images_to_gain(same) is None
    falls, rises = np.linspace(2, 1, 11), np.linspace(1, 2, 11)
    gains = [history(range(0, 101, 10), falls), history(range(0, 201, 20), falls)]
    loses = history(range(0, 101, 10), rises)
    # Of few evaluations the number would be the straight line's.
    methods = {"a": [loses, *gains], "b": [loses], "c": [history((0, 100), (2.0, 1.0))]}
    table = learning_speed_table(methods)
    # 90 and 180 images: mean 135, sample deviation 63.6.
    assert table.splitlines()[2:4] == ["| a | 135 ± 64 | 2 of 3 |", "| b | | 0 of 1 |"]
    assert "| c |" not in table and "up to 20 images apart" in table


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_is_one(share):
    with pytest.raises(ValueError, match=f"^share: got {share}, allowed"):
        images_to_gain(history((0, 8), (2.0, 1.0)), share)
