"""What a policy does: its quantities by decoding step, as a table and as a picture."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from agents.reports.figure import COLOURS, heading, new_figure, save, shortened
from agents.runs.validation import Actions
from nat_env.decoding.quantities import COLUMNS
from nat_env.samplers.names import KNOWN
from nat_env.schedules import Schedule, heuristic_schedule

PICTURE = "quantities.png"
"""In a run folder and in a shared one."""

_TITLES = {
    "remask_ratio": ("re-mask ratio m", "share of tokens still masked"),
    "sampling_temperature": ("sampling temperature τ₁", "freedom in drawing tokens"),
    "remask_temperature": ("re-mask temperature τ₂", "noise in choosing what to keep"),
    "guidance_scale": ("guidance scale w", "pull towards the class"),
    "eta": ("re-masked share η", "of the tokens known before"),
    "confidence_map": ("spread of the map", "over tokens, in nats"),
}
"""And what it does; a quantity that is not here is called by its name."""


def quantities_table(actions: Actions) -> str:
    """Mean and spread of every quantity as Markdown, a row for each step.

    Example:
        >>> number = {"mean": [0.5, 0.25], "std": [0.0, 0.125]}
        >>> print(quantities_table(dict.fromkeys(COLUMNS, number)).splitlines()[-1])
        | 2 | | 0.25 ± 0.12 | | 0.25 ± 0.12 |
    """
    lines = [
        " | ".join(["| step", *(_title(name)[0] for name in actions)]) + " |",
        "| ---: " * (1 + len(actions)) + "|",
    ]
    num_steps = len(actions[COLUMNS[0]]["mean"])
    for step in range(num_steps):
        cells = [f"| {step + 1} |"]
        for name in actions:
            mean, std = (actions[name][key][step] for key in ("mean", "std"))
            idle = step == num_steps - 1 and _is_idle_at_last(name)
            cells.append(" |" if idle else f" {mean:.2f} ± {std:.2f} |")
        lines.append("".join(cells))
    return "\n".join(lines)


def _title(name: str) -> tuple[str, str]:
    return _TITLES.get(name, (name.replace("_", " "), ""))


def _is_idle_at_last(name: str) -> bool:
    return name in KNOWN and KNOWN[name].is_idle_at_last


def schedule_actions(schedule: Schedule) -> Actions:
    """What `evaluate` would find of a policy that follows `schedule`.

    Example:
        >>> schedule_actions(heuristic_schedule(2))["guidance_scale"]
        {'mean': [0.5, 1.0], 'std': [0.0, 0.0]}
    """
    columns = zip(COLUMNS, schedule.table.T.tolist(), strict=True)
    return {name: {"mean": mean, "std": [0.0] * len(mean)} for name, mean in columns}


def save_policy_card(path: Path, actions: Actions, bundle: str) -> None:
    """A learned policy's quantities beside the papers' heuristic schedule, see `save_quantities`.

    Args:
        path: a PNG.
        actions: of the policy, as `agents.runs.checkpoint.load_about` gives.
        bundle: its name.
    """
    num_steps = len(actions[COLUMNS[0]]["mean"])
    heuristic = schedule_actions(heuristic_schedule(num_steps))
    save_quantities(path, {"heuristic": heuristic, "learned policy": actions}, bundle)


def save_quantities(path: Path, actions: Mapping[str, Actions], bundle: str) -> None:
    """Every quantity over the steps: the mean over samples, and a band of one std.

    Args:
        path: a PNG.
        actions: by policy, then by the quantity's name: `mean` and `std`, one number per step, as
            `actions` in a row of results.json.
        bundle: its name.
    """
    columns = min(3, len(actions))
    above, panel, below = 132, 202, 84 + 22 * math.ceil(len(actions) / columns)  # pixels
    height = above + panel + below
    figure = new_figure(1120, height)
    figure.subplots_adjust(
        left=0.05, right=0.98, top=1 - above / height, bottom=below / height, wspace=0.26
    )
    heading(
        figure,
        f"{bundle}: what each policy does at each decoding step",
        "Line: mean over samples. Band: ± one standard deviation over samples; "
        "a schedule has none.\n"
        "Re-masking has no effect at the last step, where all tokens are revealed.",
        56,
    )
    shown = dict.fromkeys(name for of_policy in actions.values() for name in of_policy)
    panels: NDArray[Any] = figure.subplots(1, len(shown))
    for axes, name in zip(panels, shown, strict=True):
        for index, values in enumerate(actions.values()):
            if name in values:
                colour = COLOURS[index % len(COLOURS)]
                _draw_quantity(axes, name, values[name], colour, index)
        axes.set_title("\n".join(_title(name)), fontsize=9.5, loc="left")
        axes.set_xlabel("decoding step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(0.0, 1.06 * axes.get_ylim()[1])
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    handles, _ = panels[0].get_legend_handles_labels()
    names = [shortened(name, 60) for name in actions]
    figure.legend(handles, names, loc="lower center", ncols=columns, frameon=False)
    save(figure, path)


def _draw_quantity(
    axes: Axes, name: str, values: Mapping[str, list[float]], colour: str, index: int
) -> None:
    mean, std = np.asarray(values["mean"]), np.asarray(values["std"])
    if _is_idle_at_last(name) and len(mean) > 1:
        # The last step reveals all: what a policy says there has no effect.
        mean, std = mean[:-1], std[:-1]
    steps = np.arange(1, len(mean) + 1)
    axes.plot(steps, mean, color=colour, marker="o", markersize=4, zorder=2 + index, label=name)
    if std.any():
        axes.fill_between(steps, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlim(0.8, len(values["mean"]) + 0.2)
