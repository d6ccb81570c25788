"""Whether one policy is better than another, by paired t intervals over seeds; and orderings."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from scipy.stats import ttest_rel

from eval.evaluation.rows import Row

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


@dataclass(frozen=True)
class Difference:
    """By how much values are higher than others, on the seeds that both have."""

    mean: float
    low: float
    """End of the 95 % interval; of one seed there is none, and both ends are NaN."""
    high: float
    num_seeds: int

    def __str__(self) -> str:
        """In words."""
        if self.num_seeds == 1:
            return f"by {self.mean:.3g} in one seed"
        return f"by {self.mean:.3g} [{self.low:.3g}, {self.high:.3g}] in {self.num_seeds} seeds"


def difference(lower: Mapping[int, float], upper: Mapping[int, float]) -> Difference | None:
    """Of values by seed, by how much the upper ones are higher; None where no seed has both.

    Example:
        >>> print(difference({0: 1.0, 1: 2.0, 2: 9.0}, {0: 2.0, 1: 4.0}))
        by 1.5 [-4.85, 7.85] in 2 seeds
    """
    seeds = sorted(lower.keys() & upper.keys())
    if not seeds:
        return None
    low, high = [lower[s] for s in seeds], [upper[s] for s in seeds]
    mean = float(np.mean(np.subtract(high, low)))
    if len(seeds) == 1:
        return Difference(mean, np.nan, np.nan, 1)
    with warnings.catch_warnings():  # of equal differences, whose interval is a point
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = ttest_rel(high, low).confidence_interval(0.95)
    return Difference(mean, float(interval.low), float(interval.high), len(seeds))


def by_policy(rows: Iterable[Row], judge: str, quantity: str) -> dict[str, dict[int, float]]:
    """Values by policy and seed, where they were measured."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["judge"] == judge and quantity in row:
            found.setdefault(row["policy"], {})[row["seed"]] = row[quantity]
    return found


def against(
    policy: Mapping[int, float], rival: Mapping[int, float], higher_is_better: bool = False
) -> str:
    """A policy's values by seed against another's: means, change, verdict, paired interval.

    The means are of the seeds that both have; where the interval holds 0 nothing is decided.

    Returns:
        Nothing where no seed has both.

    Example:
        >>> against({0: 1.0, 1: 1.2, 2: 1.1}, {0: 2.0, 1: 2.4, 2: 2.0})
        '1.1 against 2.13, -48 % **better**: by -1.03 [-1.41, -0.654] in 3 seeds'
        >>> against({0: 0.5}, {0: 0.4}, higher_is_better=True)
        '0.5 against 0.4, +25 % **undecided (one seed)**: by 0.1 in one seed'
    """
    found = difference(rival, policy)
    if found is None:
        return ""
    seeds = policy.keys() & rival.keys()
    ours, theirs = (float(np.mean([values[s] for s in seeds])) for values in (policy, rival))
    change = f", {100 * (ours / theirs - 1):+.0f} %" if theirs else ""
    if found.num_seeds == 1:
        word = "undecided (one seed)"
    elif found.low <= 0 <= found.high:
        word = "undecided"
    else:
        word = "better" if (found.low > 0) == higher_is_better else "worse"
    return f"{ours:.3g} against {theirs:.3g}{change} **{word}**: {found}"


def _compared(lower: Mapping[int, float], upper: Mapping[int, float]) -> tuple[str, str]:
    """The verdict on a pair, and by how much the upper one is higher."""
    found = difference(lower, upper)
    if found is None:
        return "not measured", "in no seed"
    if found.num_seeds == 1:
        return "undecided (one seed)", str(found)
    word = "holds" if found.low > 0 else "opposite" if found.high < 0 else "undecided"
    return word, str(found)


def _with_mean(label: str, values: Mapping[str, Mapping[int, float]]) -> str:
    """The label, and the mean over all its seeds."""
    found = list(values.get(label, {}).values())
    return f"{label} ({np.mean(found):.3g})" if found else label
