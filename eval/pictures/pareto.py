"""FD against passes, under each judge: nearer to the corner is better."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from agents.reports.figure import COLOURS, heading, log_scale, new_figure, save
from eval.evaluation.rows import Row

_LEFT, _PANEL, _HEIGHT = 90, 420, 520


def save_pareto(path: Path, rows: Sequence[Row], bundle: str, adaptive: Sequence[str]) -> None:
    """A line for each way to a schedule over its values of T, and one for adaptive policies.

    Args:
        path: a PNG.
        rows: of one bundle and N, of several T; a panel for each judge.
        bundle: its name.
        adaptive: names of the policies that are one line, in the order of their costs.
    """
    judges = list(dict.fromkeys(row["judge"] for row in rows))
    width = max(_LEFT + _PANEL * len(judges), 860)
    figure = new_figure(width, _HEIGHT)
    heading(
        figure,
        f"{bundle}: Frechet distance to real images against passes",
        "Lower and further left is better. Mark: mean over seeds, of a T or of a cost. "
        f"Dot: a seed of {rows[0]['num_samples']} images.",
        24,
    )
    figure.subplots_adjust(left=_LEFT / width, right=0.98, top=0.78, bottom=0.22, wspace=0.3)
    every = figure.subplots(1, len(judges), squeeze=False)[0]
    lines = [*dict.fromkeys(r["policy"] for r in rows if r["policy"] not in adaptive), "adaptive"]
    for axes, judge in zip(every, judges, strict=True):
        for line, colour in zip(lines, cycle(COLOURS), strict=False):
            names = adaptive if line == "adaptive" else [line]
            own = [r for r in rows if r["judge"] == judge and r["policy"] in names]
            if own:
                _draw(axes, own, line, colour)
        axes.set_title(judge, fontsize=10)
        axes.set_xlabel("passes of an image")
        log_scale(axes)
        axes.grid(alpha=0.25, which="both")
        axes.spines[["top", "right"]].set_visible(False)
    every[0].set_ylabel("FD")
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    save(figure, path)


def _draw(axes: Axes, rows: Sequence[Row], label: str, colour: str) -> None:
    """A line through the means of each policy and T, by their passes, and the seeds as dots."""
    seeds: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in rows:
        of = seeds.setdefault((row["policy"], row["num_steps"]), [])
        of.append((row["passes"], row["frechet_distance"]))
    means: NDArray[np.float64] = np.array([np.mean(of, axis=0) for of in seeds.values()])
    axes.plot(*np.concatenate(list(seeds.values())).T, "o", color=colour, markersize=4, alpha=0.5)
    order = means[:, 0].argsort(kind="stable")
    axes.plot(*means[order].T, color=colour, marker="D", markersize=6, label=label)
