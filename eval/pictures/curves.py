"""Pictures of numbers: the course of trainings, and precision against recall."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from agents.reports.figure import (
    COLOURS,
    heading,
    log_scale,
    new_figure,
    pixel_axes,
    save,
    write,
)
from eval.evaluation.rows import Row

_STAGES = 4


def save_training(
    path: Path, history: Sequence[Mapping[str, float]], samples: Path, about: str
) -> None:
    """FD over training, and samples from its start, best, last and other stages.

    After AdaNAT's Figure 2.

    Args:
        path: a PNG.
        history: of a run's results.json: round, trajectories, frechet_distance.
        samples: folder of the run's pictures, `round_00000.png` and so on.
        about: the run, the judge and N, for the heading.
    """
    chosen = _stages([row["frechet_distance"] for row in history])
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


def _stages(distances: Sequence[float]) -> list[int]:
    """Numbers of the evaluations to show: the first, the best, the last, and some evenly between.

    Example:
        >>> _stages([3.0, 1.0, 2.5, 1.5, 1.4, 1.3, 1.2])
        [0, 1, 4, 6]
    """
    chosen = np.unique(np.linspace(0, len(distances) - 1, _STAGES).round().astype(int))
    best = int(np.argmin(distances))
    if best not in chosen:
        chosen[1 + np.abs(chosen[1:-1] - best).argmin()] = best
    return sorted(chosen.tolist())


def save_learning_curves(
    path: Path,
    histories: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    level: float,
    about: str,
) -> None:
    """FD over trainings of several kinds: mean over seeds, and a band from best to worst.

    Args:
        path: a PNG.
        histories: by name, one for each seed, see `save_training`.
        level: FD of the heuristic, drawn as a line.
        about: bundle, judge and N, for the heading.
    """
    figure = new_figure(1000, 560)
    explanation = f"{about}. Line: mean over seeds. Band: from the lowest to the highest seed."
    heading(figure, "FD over training, one by one", explanation, 76)
    beside = 120 + 7 * max(map(len, ["heuristic", *histories]))  # pixels, with line and number
    figure.subplots_adjust(left=0.08, right=1 - beside / 1000, top=0.84, bottom=0.11)
    axes = figure.subplots()
    axes.axhline(level, color=COLOURS[0], linestyle="--", label=f"heuristic ({level:.2f})")
    colours = COLOURS[1:]
    for index, (name, seeds) in enumerate(histories.items()):
        trajectories, mean, lowest, highest = seed_band(seeds)
        colour = colours[index % len(colours)]
        dashes = ("-", "-.", ":")[index // len(colours) % 3]  # more learners than colours
        label = f"{name} ({mean[-1]:.2f})"
        axes.plot(trajectories, mean, dashes, color=colour, marker="o", markersize=3, label=label)
        axes.fill_between(trajectories, lowest, highest, color=colour, alpha=0.15, linewidth=0)
    log_scale(axes)  # some diverge
    axes.set_xlabel("trajectories (images generated for training)")
    axes.set_ylabel("FD")
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="center right", frameon=False, title="FD at the end")
    save(figure, path)


def seed_band(histories: Sequence[Sequence[Mapping[str, float]]]) -> NDArray[np.float64]:
    """Trajectories, and the mean, lowest and highest FD over seeds [4, n].

    Args:
        histories: one for each seed, see `save_training`; only evaluations that all have count.

    Example:
        >>> one = [{"trajectories": n, "frechet_distance": d} for n, d in ((0, 2.0), (8, 1.0))]
        >>> two = [{"trajectories": n, "frechet_distance": d} for n, d in ((0, 4.0), (8, 1.5))]
        >>> seed_band([one, two])[:, 1]
        array([8.  , 1.25, 1.  , 1.5 ])
    """
    by_seed = [{r["trajectories"]: r["frechet_distance"] for r in rows} for rows in histories]
    shared = sorted(set.intersection(*(set(found) for found in by_seed)))
    distances = np.array([[found[point] for point in shared] for found in by_seed])  # [seeds, n]
    return np.stack([shared, distances.mean(0), distances.min(0), distances.max(0)])


def save_precision_recall(path: Path, rows: Sequence[Row], bundle: str) -> None:
    """Precision against recall of each policy, one panel a judge, one small mark a seed.

    Args:
        path: a PNG.
        rows: with the metrics of `eval.metrics.sample_metrics`; others are left out.
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
