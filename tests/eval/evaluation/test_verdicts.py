"""Verdicts on orderings: intervals by hand, their weakest part, and how often they are wrong."""

import math

import numpy as np
import pytest

from eval.evaluation.verdicts import verdict


def by_seed(*values):
    return dict(enumerate(values))


def test_the_interval_by_hand():
    """Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), t(2 degrees, 97.5 %) = 4.30265."""
    values = {"a": by_seed(5.0, 1.0, 9.0), "b": by_seed(6.0, 3.0, 12.0)}
    reach = 4.30265 / math.sqrt(3)
    expected = f"a < b by 2 [{2 - reach:.3g}, {2 + reach:.3g}] in 3 seeds"
    assert verdict(values, ["a", "b"]) == f"a (5) < b (7) **undecided**: {expected}"
    # Four times as many of the same kind tell it; against the ordering it is the opposite.
    values = {name: by_seed(*(4 * list(of_seeds.values()))) for name, of_seeds in values.items()}
    assert "**holds**" in verdict(values, ["a", "b"])
    assert "**opposite**" in verdict(values, ["b", "a"])


def test_a_pair_is_compared_on_the_seeds_that_both_have():
    values = {"a": {0: 1.0, 1: 2.0, 5: 99.0}, "b": {1: 4.0, 0: 3.0, 7: -99.0}}
    assert verdict(values, ["a", "b"]).endswith("**holds**: a < b by 2 [2, 2] in 2 seeds")


@pytest.mark.parametrize(
    ("order", "word"),
    [
        (["low", "high"], "holds"),
        (["low", "high", "wild"], "undecided"),
        (["low", "wild", "high"], "undecided"),
        (["high", "low", "wild"], "opposite"),
        ([("low", "wild"), "high"], "undecided"),
        ([("low", "same"), "high"], "holds"),  # equal ones have no order among themselves
        (["low", "same", "high"], "undecided"),  # equal ones do not hold one
        (["low", ("high", "higher")], "holds"),
        (["low", ("high", "once")], "undecided (one seed)"),
        (["low", ("high", "never")], "not measured"),
    ],
)
def test_an_ordering_is_as_good_as_its_weakest_pair(order, word):
    values = {
        "low": by_seed(1.0, 1.1, 1.2),
        "same": by_seed(1.0, 1.1, 1.2),
        "high": by_seed(3.0, 3.3, 3.1),
        "higher": by_seed(5.0, 5.1, 5.4),
        "wild": by_seed(-9.0, 20.0, 1.0),
        "once": by_seed(30.0),
    }
    assert f" **{word}**: " in verdict(values, order)


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_methods_that_do_not_differ_are_hardly_ever_told_apart(num_seeds):
    """Three methods with the same law, whose seeds share half of their noise."""
    rng = np.random.default_rng(num_seeds)
    told = []
    for _ in range(200):
        draws = rng.normal(size=(3, num_seeds)) + rng.normal(size=num_seeds)
        values = {name: by_seed(*draw) for name, draw in zip("abc", draws, strict=True)}
        texts = [verdict(values, pair) for pair in ("ab", "bc", "ac")]
        told += ["**undecided**" not in text for text in texts]
    assert 0.02 < np.mean(told) < 0.08  # the interval leaves out 0 in 5 % of draws
