"""Whether an ordering that a paper reports holds here: seed by seed, and on average."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

Order = Sequence[str | tuple[str, ...]]
"""Labels from the lowest value to the highest; those in a tuple have no order among themselves."""


def verdict(values: Mapping[str, Mapping[int, float]], order: Order) -> str:
    """Compare an ordering with what was measured, on the seeds that all its labels have.

    It holds if it does in every seed; it does not if it does neither in any seed nor between the
    means; all else is unclear. Equal values do not hold an ordering.

    Args:
        values: by label, then by seed.
        order: of some of the labels.

    Returns:
        The means in the order asked for, the verdict, in how many seeds the ordering is there, and
        of several seeds how far apart neighbours are: mean and standard error over seeds, which
        pair what had the same random numbers.

    Example:
        >>> values = {"a": {0: 1.0, 1: 3.0, 2: 9.0}, "b": {0: 2.0, 1: 2.0}, "c": {0: 4.0, 1: 5.0}}
        >>> verdict(values, ["b", "c"])
        'b (2) < c (4.5) **holds**, in 2 of 2 seeds, apart by 2.5 ± 0.5'
        >>> verdict(values, ["a", "b"])
        'a (2) < b (2) **is unclear**, in 1 of 2 seeds, apart by 0 ± 1'
        >>> verdict(values, [("a", "b"), "c"])
        'a (2) and b (2) < c (4.5) **holds**, in 2 of 2 seeds, apart by 2 ± 0'
        >>> verdict({"a": {0: 1.0}, "b": {0: 2.0}}, ["b", "a"])
        'b (2) < a (1) **does NOT hold**, in 0 of 1 seeds'
        >>> verdict(values, ["a", "d"])
        'a < d **not measured**, no seed has all'
    """
    groups = [(group,) if isinstance(group, str) else group for group in order]
    labels = [label for group in groups for label in group]
    seeds = sorted(set.intersection(*(set(values.get(label, {})) for label in labels)))
    if not seeds:
        text = " < ".join(" and ".join(group) for group in groups)
        return f"{text} **not measured**, no seed has all"
    means = {label: float(np.mean([values[label][s] for s in seeds])) for label in labels}
    gaps = np.array([_gaps(groups, {n: values[n][s] for n in labels}) for s in seeds])
    count = int((gaps > 0).all(axis=1).sum())
    if count == len(seeds):
        word = "holds"
    else:
        word = "is unclear" if count or min(_gaps(groups, means)) > 0 else "does NOT hold"
    text = " < ".join(
        " and ".join(f"{label} ({means[label]:.3g})" for label in group) for group in groups
    )
    text += f" **{word}**, in {count} of {len(seeds)} seeds"
    if len(seeds) == 1:
        return text
    errors = gaps.std(axis=0, ddof=1) / np.sqrt(len(seeds))
    apart = (f"{m:.2g} ± {e:.2g}" for m, e in zip(gaps.mean(axis=0), errors, strict=True))
    return f"{text}, apart by {', '.join(apart)}"


def _gaps(groups: Sequence[tuple[str, ...]], values: Mapping[str, float]) -> list[float]:
    """From the highest of each group to the lowest of the next."""
    return [
        min(values[label] for label in upper) - max(values[label] for label in lower)
        for lower, upper in pairwise(groups)
    ]
