"""Whether an ordering that a paper reports holds here: by paired t intervals over seeds."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise, product

import numpy as np
from scipy.stats import ttest_rel

Order = Sequence[str | tuple[str, ...]]
"""Labels from the lowest value to the highest; those in a tuple have no order among themselves."""

VERDICTS = ("opposite", "not measured", "undecided (one seed)", "undecided", "holds")
"""From the weakest to the strongest."""


def verdict(values: Mapping[str, Mapping[int, float]], order: Order) -> str:
    """Compare an ordering with what was measured, pair by pair of neighbours.

    A pair holds if the 95 % interval of its difference lies above 0, and is opposite if that lies
    below. It is of the seeds that both have: what has the same random numbers is paired. Among
    labels that do not differ, one pair in twenty is called one or the other. The verdict is that
    of the weakest pair.

    Args:
        values: by label, then by seed.
        order: of some of the labels.

    Returns:
        The means in the order asked for, the verdict, and of each pair the mean difference, its
        interval and the number of seeds.

    Example:
        >>> values = {"a": {0: 1.0, 1: 3.0, 2: 9.0}, "b": {0: 2.0, 1: 2.5}, "c": {0: 4.0, 1: 4.6}}
        >>> verdict(values, ["b", "c"])
        'b (2.25) < c (4.3) **holds**: b < c by 2.05 [1.41, 2.69] in 2 seeds'
        >>> verdict(values, ["c", "b"])
        'c (4.3) < b (2.25) **opposite**: c < b by -2.05 [-2.69, -1.41] in 2 seeds'
        >>> verdict(values, [("a", "b"), "c"]).split("; ")[0]
        'a (4.33) and b (2.25) < c (4.3) **undecided**: a < c by 2.3 [-6.59, 11.2] in 2 seeds'
        >>> verdict({"a": {0: 1.0}, "b": {0: 2.0}}, ["a", "b"])
        'a (1) < b (2) **undecided (one seed)**: a < b by 1 in one seed'
        >>> verdict(values, ["a", "d"])
        'a (4.33) < d **not measured**: a < d in no seed'
    """
    groups = [(group,) if isinstance(group, str) else group for group in order]
    words, parts = [], []
    for lower, upper in (pair for two in pairwise(groups) for pair in product(*two)):
        word, difference = _compared(values.get(lower, {}), values.get(upper, {}))
        words.append(word)
        parts.append(f"{lower} < {upper} {difference}")
    labels = " < ".join(" and ".join(_with_mean(n, values) for n in group) for group in groups)
    return f"{labels} **{min(words, key=VERDICTS.index)}**: {'; '.join(parts)}"


def _compared(lower: Mapping[int, float], upper: Mapping[int, float]) -> tuple[str, str]:
    """The verdict on a pair, and by how much the upper one is higher."""
    seeds = sorted(lower.keys() & upper.keys())
    if not seeds:
        return "not measured", "in no seed"
    low, high = [lower[s] for s in seeds], [upper[s] for s in seeds]
    mean = float(np.mean(np.subtract(high, low)))
    if len(seeds) == 1:
        return "undecided (one seed)", f"by {mean:.3g} in one seed"
    with warnings.catch_warnings():  # of equal differences, whose interval is a point
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = ttest_rel(high, low).confidence_interval(0.95)
    word = "holds" if interval.low > 0 else "opposite" if interval.high < 0 else "undecided"
    return word, f"by {mean:.3g} [{interval.low:.3g}, {interval.high:.3g}] in {len(seeds)} seeds"


def _with_mean(label: str, values: Mapping[str, Mapping[int, float]]) -> str:
    """The label, and the mean over all its seeds."""
    found = list(values.get(label, {}).values())
    return f"{label} ({np.mean(found):.3g})" if found else label
