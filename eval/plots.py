"""Pictures of policies and their samples, for someone who sees them for the first time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from eval.evaluate import SEED_STRIDE
from eval.figure import (
    COLOURS,
    heading,
    label_width,
    new_figure,
    pixel_axes,
    save,
    shortened,
    write,
)
from nat_env.bundle import Bundle, balanced_conditions
from nat_env.generate import StepRecord, generate
from nat_env.policies import DecodingPolicy
from nat_env.render import canvas, image_grid
from nat_env.schedules import COLUMNS

_TITLES = (
    "re-mask ratio m\nshare of tokens still masked",
    "sampling temperature $\\tau_1$\nfreedom in drawing tokens",
    "re-mask temperature $\\tau_2$\nnoise in choosing what to keep",
    "guidance scale w\npull towards the class",
)
_IDLE_AT_LAST_STEP = ("remask_ratio", "remask_temperature")


def save_sample_grids(
    path: Path,
    bundle: Bundle,
    policies: Mapping[str, DecodingPolicy],
    num_steps: int,
    seed: int,
    captions: Mapping[str, str] | None = None,
    per_class: int = 8,
    max_classes: int = 10,
) -> None:
    """Grids of samples side by side: a row per class, the same random numbers in each grid.

    They are the first samples of `evaluate` with this seed, not chosen.

    Args:
        path: a PNG.
        bundle: the frozen models.
        policies: by name, from left to right.
        num_steps: T.
        seed: of the evaluation.
        captions: a second line under a policy's name.
        per_class: columns of a grid.
        max_classes: rows at most.
    """
    shown = min(bundle.num_classes, max_classes)
    count = per_class * bundle.num_classes
    conditions = balanced_conditions(count, bundle.num_classes)
    # Sample i has class i mod C: down the columns of a table with C rows.
    order = torch.arange(count).view(per_class, -1).T[:shown].flatten()
    scale = max(1, round(56 / bundle.real_images.shape[-1]))
    sheets = []
    for policy in policies.values():
        images = generate(bundle, policy, conditions, num_steps, seed * SEED_STRIDE)
        sheets.append(np.asarray(image_grid(images[order], per_class, scale, gap=3)))

    height, width, _ = sheets[0].shape
    left = label_width(bundle.class_names[:shown])
    top, gap, bottom = 104, 28, 12
    total = (left + len(sheets) * (width + gap), top + height + bottom)
    figure = new_figure(*total)
    heading(
        figure,
        f"{bundle.name}: samples after T = {num_steps} decoding steps",
        "Same class and same random numbers at the same place of each grid; not chosen by hand.",
        left,
    )
    for index, (name, sheet) in enumerate(zip(policies, sheets, strict=True)):
        x = left + index * (width + gap)
        axes = pixel_axes(figure, x, top, width, height)
        axes.imshow(sheet, interpolation="nearest")
        caption = (captions or {}).get(name, "")
        write(figure, x, top - 24, shortened(name, width // 9), size=11, weight="bold")
        write(figure, x, top - 8, caption, size=10)
    for row in range(shown):
        y = top + round((row + 0.5) * height / shown)
        write(figure, left - 8, y, bundle.class_names[row], size=10, ha="right", va="center")
    save(figure, path)


def save_quantities(
    path: Path, actions: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], bundle: str
) -> None:
    """The four quantities over the steps: the mean over samples, and a band of one std.

    Args:
        path: a PNG.
        actions: by policy, then by the quantity's name: `mean` and `std`, one number per step, as
            `actions` in a row of results.json.
        bundle: its name.
    """
    figure = new_figure(1120, 440)
    figure.subplots_adjust(left=0.05, right=0.98, top=0.70, bottom=0.24, wspace=0.26)
    heading(
        figure,
        f"{bundle}: what each policy does at each decoding step",
        "Line: mean over samples. Band: ± one standard deviation over samples; "
        "a schedule has none.\n"
        "m and $\\tau_2$ have no effect at the last step, where all tokens are revealed.",
        56,
    )
    panels: NDArray[Any] = figure.subplots(1, len(COLUMNS))
    for column, (axes, title) in enumerate(zip(panels, _TITLES, strict=True)):
        for index, values in enumerate(actions.values()):
            quantity = values[COLUMNS[column]]
            _draw_quantity(axes, COLUMNS[column], quantity, COLOURS[index % len(COLOURS)], index)
        axes.set_title(title, fontsize=9.5, loc="left")
        axes.set_xlabel("decoding step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0.0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    handles, _ = panels[0].get_legend_handles_labels()
    names = [shortened(name, 60) for name in actions]
    figure.legend(handles, names, loc="lower center", ncols=min(3, len(names)), frameon=False)
    save(figure, path)


def save_steps(
    path: Path,
    bundle: Bundle,
    name: str,
    policy: DecodingPolicy,
    num_steps: int,
    seed: int,
    rows: int = 5,
    candidates: int = 128,
) -> None:
    """A few samples after each step, with the re-mask ratio that the policy chose.

    After AdaNAT's Figure 3. The samples are those with the least and the most re-masking among the
    first of `evaluate` with this seed, and some evenly between.

    Args:
        path: a PNG.
        bundle: the frozen models.
        name: of the policy, for the title.
        policy: (features, timestep) -> m, tau_1, tau_2, w.
        num_steps: T; at most 8 of the steps are shown.
        seed: of the evaluation.
        rows: samples shown.
        candidates: samples they are taken from.
    """
    records: list[StepRecord] = []
    labels = balanced_conditions(candidates, bundle.num_classes)
    generate(bundle, policy, labels, num_steps, seed * SEED_STRIDE, candidates, records.append)
    ratios = torch.stack([r.actions[:, 0] for r in records], dim=1).cpu()  # [B, T]
    chosen = _spread(ratios[:, :-1].sum(dim=1), rows)
    steps = np.unique(np.linspace(0, num_steps - 1, min(num_steps, 8)).round().astype(int))
    final = records[-1].ids[chosen]
    scale = max(1, round(130 / bundle.real_images.shape[-1]))

    size = bundle.real_images.shape[-1] * scale
    left = label_width(bundle.class_names)
    top, gap, below = 130, 14, 36
    width = max(left + len(steps) * (size + gap), 720)
    figure = new_figure(width, top + len(chosen) * (size + below) + 8)
    heading(
        figure,
        f"{bundle.name}: T = {num_steps} decoding steps, one by one",
        f"Policy: {shortened(name, 70)}.\n"
        "m: share of the tokens that the policy leaves masked (blue) for the next step.\n"
        f"Rows: from the sample with the least re-masking to that with the most, of {candidates}.",
        left,
    )
    for position, step in enumerate(steps):
        ids = records[step].ids[chosen]
        frames = canvas(bundle.tokenizer, ids, final, bundle.nat.mask_id, scale)
        counts = (ids == bundle.nat.mask_id).sum(dim=1).tolist()
        x = left + position * (size + gap)
        write(figure, x, top - 8, f"after step {step + 1}", size=10, weight="bold")
        for row, (frame, count) in enumerate(zip(frames, counts, strict=True)):
            y = top + row * (size + below)
            pixel_axes(figure, x, y, size, size).imshow(frame, interpolation="nearest")
            below_frame = f"m = {ratios[chosen[row], step]:.2f} ({count} of {bundle.num_tokens})"
            if step == num_steps - 1:
                below_frame = "all revealed"
            write(figure, x, y + size + 15, below_frame, size=9)
    for row, index in enumerate(chosen.tolist()):
        y = top + row * (size + below) + size // 2
        label = bundle.class_names[int(labels[index])]
        write(figure, left - 8, y, label, size=10, ha="right", va="center")
    save(figure, path)


def _draw_quantity(
    axes: Axes, name: str, values: Mapping[str, Sequence[float]], colour: str, index: int
) -> None:
    mean, std = np.asarray(values["mean"]), np.asarray(values["std"])
    if name in _IDLE_AT_LAST_STEP and len(mean) > 1:
        # The last step reveals all: what a policy says there has no effect.
        mean, std = mean[:-1], std[:-1]
    steps = np.arange(1, len(mean) + 1)
    axes.plot(steps, mean, color=colour, marker="o", markersize=4, zorder=2 + index, label=name)
    if std.any():
        axes.fill_between(steps, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlim(0.8, len(values["mean"]) + 0.2)


def _spread(values: Tensor, count: int) -> Tensor:
    """Indices of the smallest, the largest, and values evenly between by rank."""
    ranks = torch.linspace(0, len(values) - 1, count).round().long()
    return values.argsort(stable=True)[ranks]
