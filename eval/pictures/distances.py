"""FD of each policy under each judge: what the table says, at a glance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.reports.figure import COLOURS, heading, new_figure, save, shortened, write
from eval.evaluation.rows import Row

_BAR = 34
_LABEL = 32
"""Characters of a policy's name."""


def save_distances(path: Path, rows: Sequence[Row], floors: Sequence[Row], bundle: str) -> None:
    """A bar for each policy, its mean over seeds, a dot for each seed, and the floors as lines.

    Args:
        path: a PNG.
        rows: of one T and N; a panel for each judge.
        floors: see `eval.evaluation.floors`; the reconstructions are drawn.
        bundle: its name.
    """
    judges = list(dict.fromkeys(row["judge"] for row in rows))
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    left = 30 + 11 * max(len(shortened(policy, _LABEL)) for policy in policies)
    top, gap, below, panel = 116, 28, 64, 400
    height = _BAR * len(policies)
    figure = new_figure(left + len(judges) * (panel + gap), top + height + below)
    total_width, total_height = figure.get_size_inches() * figure.dpi
    heading(
        figure,
        f"{bundle}: Frechet distance to real images, T = {rows[0]['num_steps']}",
        f"Lower is better. Bar: mean over seeds. Dot: a seed of {rows[0]['num_samples']} images.\n"
        "Dashed: the tokenizer's reconstructions of real images.",
        24,
    )
    for column, judge in enumerate(judges):
        x = left + column * (panel + gap)
        box = (x / total_width, below / total_height, panel / total_width, height / total_height)
        axes = figure.add_axes(box)
        for index, policy in enumerate(policies):
            found = [
                row["frechet_distance"]
                for row in rows
                if (row["policy"], row["judge"]) == (policy, judge)
            ]
            style: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)]}
            if not found:
                continue
            mean = float(np.mean(found))
            axes.barh(index, mean, height=0.62, alpha=0.35, **style)
            axes.plot(found, [index] * len(found), "o", markersize=6, **style)
            axes.annotate(
                f"{mean:.3g}", (max(found), index), (9, 0), textcoords="offset points",
                fontsize=12, va="center",
            )  # fmt: skip
        for floor in floors:
            if floor["judge"] == judge and floor["floor"] == "reconstruction":
                axes.axvline(floor["frechet_distance"], color="black", linestyle="--", linewidth=1)
        axes.set_ylim(len(policies) - 0.5, -0.5)
        axes.set_xlim(0, 1.18 * axes.get_xlim()[1])
        axes.set_yticks([])
        axes.tick_params(labelsize=11)
        axes.set_xlabel("FD", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        write(figure, x, top - 10, judge, size=12, weight="bold")
    for index, policy in enumerate(policies):
        y = top + (index + 0.5) * _BAR
        write(figure, left - 10, y, shortened(policy, _LABEL), size=12, ha="right", va="center")
    save(figure, path)
