"""How many images a training needs for most of what it gains."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from eval.evaluation.tables import markdown_line, mean_and_spread

History = Sequence[Mapping[str, float]]
"""Of a run's results.json: trajectories and frechet_distance of each evaluation."""

LEAST_POINTS = 10
"""Evaluations of a training by which its speed can be told."""


def images_to_gain(history: History, share: float = 0.9) -> float | None:
    """Trajectories at which FD first reaches a share of the way from the start to the end.

    Straight lines between evaluations.

    Args:
        history: of one training, by trajectories.
        share: of the gain, in (0, 1].

    Returns:
        None for a training whose FD ends no lower than it starts.

    Raises:
        ValueError: a share outside (0, 1].

    Example:
        >>> rows = [(0, 2.0), (100, 1.5), (200, 0.9), (300, 1.0)]
        >>> history = [{"trajectories": n, "frechet_distance": d} for n, d in rows]
        >>> round(images_to_gain(history), 6)  # 1.1 lies two thirds between 1.5 and 0.9
        166.666667
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: got {share}, allowed is 0 < share <= 1")
    start, end = history[0]["frechet_distance"], history[-1]["frechet_distance"]
    if not end < start:
        return None
    level = start - share * (start - end)
    for before, after in pairwise(history):
        if after["frechet_distance"] <= level:
            falls = before["frechet_distance"] - after["frechet_distance"]
            part = (before["frechet_distance"] - level) / falls
            return before["trajectories"] + part * (after["trajectories"] - before["trajectories"])
    raise AssertionError("the last evaluation reaches its own level")


def learning_speed_table(histories: Mapping[str, Sequence[History]], share: float = 0.9) -> str:
    """Images to a share of the gain as a Markdown table, over the seeds that gain.

    Trainings that were evaluated fewer than `LEAST_POINTS` times are left out: between points that
    far apart, the number would be the line's and not the training's.

    Args:
        histories: by method, one for each seed.
        share: of the gain.

    Returns:
        The table, or nothing where no training was evaluated often enough.

    Example:
        >>> gains = [{"trajectories": 10 * n, "frechet_distance": 20 - n} for n in range(11)]
        >>> loses = [{"trajectories": 10 * n, "frechet_distance": 20 + n} for n in range(11)]
        >>> print(learning_speed_table({"a": [gains, loses], "b": [gains[:4]]}).splitlines()[2])
        | a | 90 | 1 of 2 |
        >>> learning_speed_table({"b": [gains[:4]]})
        ''
    """
    histories = {
        name: often
        for name, seeds in histories.items()
        if (often := [history for history in seeds if len(history) >= LEAST_POINTS])
    }
    if not histories:
        return ""
    lines = [
        f"| training | images to {share:.0%} of its gain | seeds that gain |",
        "| --- | ---: | ---: |",
    ]
    for name, seeds in histories.items():
        found = [n for history in seeds if (n := images_to_gain(history, share)) is not None]
        images = mean_and_spread(found, digits=0) if found else ""
        lines.append(markdown_line([name, images, f"{len(found)} of {len(seeds)}"]))
    spacing = max(
        after["trajectories"] - before["trajectories"]
        for seeds in histories.values()
        for history in seeds
        for before, after in pairwise(history)
    )
    note = f"FD on straight lines between evaluations, which are up to {spacing} images apart."
    return "\n".join([*lines, "", note])
