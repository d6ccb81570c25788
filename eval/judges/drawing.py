"""Real images drawn as samples are, conditions as even as can be; and in halves."""

import numpy as np
from numpy.typing import NDArray


def draw(
    labels: NDArray[np.int64], count: int, rng: np.random.Generator, halves: bool = False
) -> NDArray[np.int64]:
    """Numbers of at most `count` images, without replacement, classes as even as can be.

    A class that has too few gives all of them, and no other one gives more for it: statistics
    weigh them up, see `balanced_statistics`.

    Args:
        labels: [n] of the images.
        count: at least 1.
        rng: draws within the classes.
        halves: of each class at most half of the images, so that there are others.

    Example:
        >>> labels = np.array([7, 7, 7, 7, 7, 9])
        >>> chosen = draw(labels, 4, np.random.default_rng(0))
        >>> labels[chosen].tolist()
        [7, 9, 7]
    """
    order = rng.permutation(len(labels))
    classes, which, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
    begins = np.cumsum(counts) - counts  # of each class, once they are sorted
    place = np.empty(len(labels), dtype=np.int64)  # within the class
    place[np.argsort(which, kind="stable")] = np.arange(len(labels)) - begins.repeat(counts)
    most = np.minimum(counts // 2 if halves else counts, -(-count // len(classes)))
    rounds = np.lexsort((which, place))  # one of each class, and again
    return order[rounds[place[rounds] < most[which[rounds]]][:count]]


def strata(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """What images are drawn evenly from [n]: their classes, or one stratum for all.

    One for all where most have one image, as prompts do: it is in one half or the other, and a draw
    that takes one image of each would be the same every time.

    Args:
        labels: [n] of the images.

    Example:
        >>> strata(np.array([4, 4, 7, 7, 9])).tolist(), strata(np.array([4, 4, 7, 8, 9])).tolist()
        ([4, 4, 7, 7, 9], [0, 0, 0, 0, 0])
    """
    return np.zeros_like(labels) if mostly_single(labels) else labels


def mostly_single(labels: NDArray[np.int64]) -> bool:
    """Whether most classes have one image alone.

    Example:
        >>> mostly_single(np.array([4, 4, 7, 8, 9]))
        True
    """
    _, counts = np.unique(labels, return_counts=True)
    return bool(2 * (counts == 1).sum() > len(counts))


def alike(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Numbers of as many images as there are with equally many of each class; sorted.

    For metrics that count images, whose classes cannot be weighed.

    Example:
        >>> alike(np.array([0, 0, 1, 1]), np.random.default_rng(0)).tolist()
        [0, 1, 2, 3]
    """
    _, counts = np.unique(labels, return_counts=True)
    return np.sort(draw(labels, len(counts) * int(counts.min()), rng))
