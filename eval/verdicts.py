"""Whether an ordering that a paper reports holds here: by means over seeds, and seed by seed."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

Order = Sequence[str | tuple[str, ...]]
"""Labels from the lowest value to the highest; those in a tuple have no order among themselves."""


def verdict(values: Mapping[str, Mapping[int, float]], order: Order) -> str:
    """Compare an ordering with what was measured, on the seeds that all its labels have.

    Equal values do not hold an ordering.

    Args:
        values: by label, then by seed.
        order: of some of the labels.

    Returns:
        The means in the order asked for, whether it is theirs, and in how many seeds it is there.

    Example:
        >>> values = {"a": {0: 1.0, 1: 3.0, 2: 9.0}, "b": {0: 2.0, 1: 2.0}, "c": {0: 4.0, 1: 4.0}}
        >>> verdict(values, ["b", "c"])
        'b (2) < c (4) **holds**, in 2 of 2 seeds'
        >>> verdict(values, ["a", "b"])
        'a (2) < b (2) **does NOT hold**, in 1 of 2 seeds'
        >>> verdict(values, [("a", "b"), "c"])
        'a (2) and b (2) < c (4) **holds**, in 2 of 2 seeds'
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
    by_seed = [{label: values[label][s] for label in labels} for s in seeds]
    count = sum(_ascends(groups, found) for found in by_seed)
    text = " < ".join(
        " and ".join(f"{label} ({means[label]:.3g})" for label in group) for group in groups
    )
    word = "holds" if _ascends(groups, means) else "does NOT hold"
    return f"{text} **{word}**, in {count} of {len(seeds)} seeds"


def _ascends(groups: Sequence[tuple[str, ...]], values: Mapping[str, float]) -> bool:
    return all(
        max(values[label] for label in lower) < min(values[label] for label in upper)
        for lower, upper in pairwise(groups)
    )
