"""Pictures of numbers: a training's course, and precision against recall."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eval.figure import COLOURS, heading, new_figure, pixel_axes, save, write
from eval.tables import Row

_STAGES = 4


def save_training(
    path: Path, history: Sequence[Mapping[str, float]], samples: Path, about: str
) -> None:
    """FD over training, and samples from several of its stages (AdaNAT's Figure 2).

    Args:
        path: a PNG.
        history: of a run's results.json: round, trajectories, frechet_distance.
        samples: folder of the run's pictures, `round_00000.png` and so on.
        about: the run, the judge and N, for the heading.
    """
    chosen = np.unique(np.linspace(0, len(history) - 1, _STAGES).round().astype(int))
    stages = [(history[i], Image.open(samples / _picture(history[i]))) for i in chosen]
    width, height = stages[0][1].size
    left, top, gap, chart = 76, 84, 24, 240
    total = max(left + len(stages) * (width + gap), 700)
    figure = new_figure(total, top + chart + 110 + height)
    heading(figure, "FD and samples over training", about, left)
    axes = pixel_axes(figure, left, top, total - left - gap, chart)
    axes.set_axis_on()
    trajectories = [row["trajectories"] for row in history]
    distances = [row["frechet_distance"] for row in history]
    axes.plot(trajectories, distances, color=COLOURS[1], marker="o", markersize=4)
    axes.set_xlabel("trajectories (images generated for training)")
    axes.set_ylabel("FD")
    axes.set_ylim(bottom=0.0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    for index, (row, picture) in enumerate(stages):
        x, y = left + index * (width + gap), top + chart + 90
        label = f"{row['trajectories']:.0f} trajectories, FD {row['frechet_distance']:.2f}"
        write(figure, x, y - 8, label, size=8.5)
        pixel_axes(figure, x, y, width, height).imshow(np.asarray(picture.convert("RGB")))
    save(figure, path)


def save_precision_recall(path: Path, rows: Sequence[Row], bundle: str) -> None:
    """Precision against recall of each policy, one panel a judge, one small mark a seed.

    Args:
        path: a PNG.
        rows: with the metrics of `eval.metrics`; others are left out.
        bundle: its name.
    """
    measured = [row for row in rows if "precision" in row]
    judges = list(dict.fromkeys(row["judge"] for row in measured))
    policies = list(dict.fromkeys(row["policy"] for row in measured))
    width = 420 * len(judges) + 260
    figure = new_figure(width, 460)
    heading(
        figure,
        f"{bundle}: precision against recall",
        "Up: more samples look real. Right: more of what is real is among the samples.\n"
        "Small: each seed. Large: their mean.",
        56,
    )
    figure.subplots_adjust(
        left=76 / width, right=1 - 250 / width, top=0.74, bottom=0.14, wspace=0.3
    )
    panels = figure.subplots(1, len(judges), squeeze=False)[0]
    for axes, judge in zip(panels, judges, strict=True):
        for index, policy in enumerate(policies):
            points = np.array(
                [
                    (row["recall"], row["precision"])
                    for row in measured
                    if (row["policy"], row["judge"]) == (policy, judge)
                ]
            )
            style: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)]}
            axes.scatter(points[:, 0], points[:, 1], s=12, alpha=0.6, **style)
            axes.scatter(*points.mean(axis=0), s=70, label=policy, **style)
        axes.set_title(judge, fontsize=9.5, loc="left")
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center right", frameon=False, fontsize=8)
    save(figure, path)


def _picture(row: Mapping[str, float]) -> str:
    return f"round_{int(row['round']):05d}.png"
