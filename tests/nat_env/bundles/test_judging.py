"""How many images a Frechet distance needs."""

import numpy as np
import pytest

from nat_env.bundles.judging import check_rank
from nat_env.bundles.statistics import GaussianStatistics


def statistics(count):
    return GaussianStatistics(np.zeros(4), np.eye(4), count)


def test_more_images_than_features_on_both_sides():
    for count in (5, None):  # a file of statistics does not say how many
        check_rank("pixels", statistics(count), 5)
    with pytest.raises(ValueError, match=r"^judge: pixels has 4 features, .* 4 real images"):
        check_rank("pixels", statistics(4), 100)
    with pytest.raises(ValueError, match=r"^eval_samples: got 4, allowed is > 4, .* pixels"):
        check_rank("pixels", statistics(100), 4, "eval_samples")
