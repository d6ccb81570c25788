"""Whatever chooses and whatever judges draw from seeds of their own."""

from itertools import pairwise

import pytest

from nat_env import seeds
from nat_env.seeds import SeedRange

RANGES = {name: value for name, value in vars(seeds).items() if isinstance(value, SeedRange)}


def test_no_two_ranges_share_a_seed():
    assert len(RANGES) == 7
    in_order = sorted(RANGES.values(), key=lambda found: found.first)
    assert all(one.last < other.first for one, other in pairwise(in_order))


def test_each_training_is_evaluated_by_samples_of_its_own():
    one, next_one = (seeds.TRAINING_EVALUATION.seed_of(seed) for seed in (0, 1))
    assert next_one - one == seeds.TRAINING_EVALUATION.stride >= 10**6
    assert seeds.TRAINING_EVALUATION.limit == seeds.TRAINING.limit


@pytest.mark.parametrize("name", RANGES)
def test_first_and_last_bound_what_a_range_gives(name):
    found = RANGES[name]
    assert found.seed_of(0) == found.first
    assert found.seed_of(found.limit - 1, found.stride - 1) == found.last


@pytest.mark.parametrize(
    ("name", "run_seed", "index", "expected"),
    [  # what results that were published have been drawn with
        ("NAT_EVAL", 3, 41, 3_000_041),
        ("NAT_EVAL", 1_099_510, 999_999, 1_099_510_999_999),
        ("TRAINING_EVALUATION", 0, 2, 1_099_511_627_778),
        ("TRAINING_EVALUATION", 3, 2, 1_099_511_627_776 + 3 * 33_554_432 + 2),
        ("TRAINING", 3, 2, 2_199_023_255_552 + 3 * 268_435_456 + 2),
        ("FRESH_SAMPLES", 3, 2, 1_125_899_906_842_624 + 3 * 268_435_456 + 2),
        ("PROXIES", 0, 2 * 1000, 8_796_093_022_208 + 2 * 1000),
        ("SEARCH", 3, 2, 35_184_372_088_832 + 3 * 4_294_967_296 + 2),
    ],
)
def test_seeds_are_what_they_have_always_been(name, run_seed, index, expected):
    assert RANGES[name].seed_of(run_seed, index) == expected


@pytest.mark.parametrize(
    ("run_seed", "index", "message"),
    [
        (-1, 0, r"seed: got -1, allowed are 0 \.\. 1"),
        (2, 0, r"seed: got 2, allowed are 0 \.\. 1"),
        (0, -1, r"index: got -1, allowed are 0 \.\. 9"),
        (0, 10, r"index: got 10, allowed are 0 \.\. 9"),
    ],
)
def test_what_would_reach_into_another_run_or_range_is_refused(run_seed, index, message):
    with pytest.raises(ValueError, match=message):
        SeedRange(100, stride=10, limit=2).seed_of(run_seed, index)
