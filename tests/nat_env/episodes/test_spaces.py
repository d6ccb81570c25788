"""A Box that keeps its bounds once is Gymnasium's in all that is asked of it."""

import pickle
import tracemalloc

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from nat_env.episodes.spaces import UniformBox


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(-2.5, 2.5, np.float32), (0, 9, np.int64), (-np.inf, np.inf, np.float32)],
)
def test_it_is_the_box_of_the_same_bounds(low, high, dtype):
    ours, theirs = UniformBox(low, high, (3, 4), dtype), spaces.Box(low, high, (3, 4), dtype)
    for left, right in ((ours, theirs), (batch_space(ours, 5), batch_space(theirs, 5))):
        assert left == right and right == left and repr(left) == repr(right)
        assert left.is_bounded() == right.is_bounded()
        left.seed(7), right.seed(7)
        sample = left.sample()
        np.testing.assert_array_equal(sample, right.sample())
        assert sample in left and sample in right and sample.dtype == dtype
        assert (sample[..., :2] in left) is (sample[..., :2] in right) is False
        copy = pickle.loads(pickle.dumps(left))
        assert copy == left
        np.testing.assert_array_equal(copy.sample(), left.sample())
    batch = batch_space(ours, 2)
    rows = [ours.sample(), ours.sample()]
    stacked = concatenate(ours, rows, create_empty_array(ours, 2))
    np.testing.assert_array_equal(list(iterate(batch, stacked)), rows)


def test_a_batch_of_large_spaces_takes_no_memory():
    tracemalloc.start()
    space = UniformBox(-30.0, 30.0, (196_608,))
    batch = batch_space(spaces.Dict(features=space), 64)
    written = pickle.dumps(batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert batch["features"].shape == (64, 196_608)
    assert peak < 2**20 and len(written) < 2**14
