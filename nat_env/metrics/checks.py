"""Embeddings as metrics take them: float64, finite, and of one dimension."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nat_env.bundles.statistics import real_array

Array = NDArray[np.float64]


def checked(name: str, values: ArrayLike) -> Array:
    """Take `values` as float64 [N, D].

    Raises:
        ValueError: a wrong shape, or values that are no real numbers, or not finite; `name` is
            the argument's.
    """
    array = real_array(name, values)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name}: expected [N, D] with N and D at least 1, got {array.shape}")
    bad = int((~np.isfinite(array)).any(axis=1).sum())
    if bad:
        raise ValueError(
            f"{name}: {bad} of {len(array)} rows hold values that are not finite; "
            "check the images and the judge, or drop these rows"
        )
    return array


def checked_pair(real: ArrayLike, fake: ArrayLike) -> tuple[Array, Array]:
    """Take the embeddings of real images and of samples as float64 [N, D] and [M, D].

    Raises:
        ValueError: as in `checked`, or two D.
    """
    first, second = checked("real", real), checked("fake", fake)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"real and fake: dimensions differ, D = {first.shape[1]} and D = {second.shape[1]}; "
            "take the embeddings of both from one judge"
        )
    return first, second
