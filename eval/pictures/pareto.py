"""FD against passes, under each judge: nearer to the corner is better."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agents.reports.figure import COLOURS, heading, new_figure, save
from eval.evaluation.rows import Row

_PANEL, _HEIGHT = 440, 520


def save_pareto(path: Path, rows: Sequence[Row], bundle: str) -> None:
    """A line for each policy over its values of T, its mean over seeds, and a dot for each seed.

    Args:
        path: a PNG.
        rows: of one bundle and N, of several T; a panel for each judge.
        bundle: its name.
    """
    judges = list(dict.fromkeys(row["judge"] for row in rows))
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    figure = new_figure(80 + _PANEL * len(judges), _HEIGHT)
    heading(
        figure,
        f"{bundle}: Frechet distance to real images against passes",
        f"Lower and further left is better. Dot: a seed of {rows[0]['num_samples']} images. Line: "
        "means over seeds, T by T.",
        24,
    )
    figure.subplots_adjust(left=0.07, right=0.98, top=0.76, bottom=0.24, wspace=0.22)
    every = figure.subplots(1, len(judges), squeeze=False)[0]
    for axes, judge in zip(every, judges, strict=True):
        for number, policy in enumerate(policies):
            own = [r for r in rows if (r["judge"], r["policy"]) == (judge, policy)]
            colour = COLOURS[number % len(COLOURS)]
            seeds = np.array([(row["passes"], row["frechet_distance"]) for row in own])
            if not len(seeds):
                continue
            axes.plot(*seeds.T, "o", color=colour, markersize=4, alpha=0.5)
            steps = sorted({row["num_steps"] for row in own})
            means = np.array(
                [
                    seeds[[row["num_steps"] == num_steps for row in own]].mean(axis=0)
                    for num_steps in steps
                ]
            )
            axes.plot(*means.T, color=colour, marker="D", markersize=5, label=policy)
        axes.set_title(judge, fontsize=10)
        axes.set_xlabel("passes of an image")
        axes.set_yscale("log")
        axes.grid(alpha=0.25, which="both")
        axes.spines[["top", "right"]].set_visible(False)
    every[0].set_ylabel("FD")
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=9)
    save(figure, path)
