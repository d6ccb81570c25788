"""report.md of a run folder: what was trained, what came out, and the commands to do it again."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from agents.algorithms import algorithm_of
from agents.checkpoint import load_about
from agents.command import training_command
from agents.computation import machine
from agents.config import TrainConfig
from agents.evaluation import Actions
from nat_env.files import write_text
from nat_env.schedules import COLUMNS

REPORT = "report.md"

_IDLE_AT_LAST_STEP = ("remask_ratio", "remask_temperature")


def write_report(
    config: TrainConfig, judge: str, history: Sequence[Mapping[str, float]], seconds: float
) -> None:
    """Write the report of a run as far as it is.

    Args:
        config: of the training; its folder holds the best policy.
        judge: name of the bundle's judge.
        history: one entry per evaluation: round, trajectories, frechet_distance.
        seconds: of training so far.
    """
    actions = load_about(config.out)["actions"]
    on = machine()
    command = training_command(config)
    shown = _named(history)
    pictures = "\n\n".join(
        f"{name[0].upper()}{name[1:]}, FD {row['frechet_distance']:.2f}:\n\n"
        f"![{name}]({_picture(row)})"
        for row, name in shown
        if name
    )
    text = f"""# A decoding policy for `{config.bundle}`

Learner `{config.algo}` ({algorithm_of(config).about}), reward `{config.reward}`, T = \
{config.num_steps} decoding steps. {history[-1]["trajectories"]:.0f} of \
{config.rounds * config.trajectories_per_round} trajectories in {seconds:.0f} s, evaluations \
included, on {on["cpu_count"]} {on["processor"]} processors (torch threads: \
{on["torch_threads"]}, torch {on["torch"]}).

## Evaluations

{evaluations_table(history, judge, config.eval_samples)}

## What the best policy does

Mean ± standard deviation over the evaluation's samples. The last step reveals all: m and tau_2 \
have no effect there.

{quantities_table(actions)}

## Pictures

A row for each place, a column for each class, the same random numbers in each picture.

{pictures}

## Commands

The training again:

    {shlex.join(command)}

Other samples than those that chose the best policy, and the papers' schedule beside it:

    {shlex.join(evaluation_command(config, str(config.out), str(config.out / "eval")))}

The course of rewards, discriminator and quantities:

    {shlex.join(["tensorboard", "--logdir", str(config.out / "tensorboard")])}

## Configuration

```json
{json.dumps(config.as_json(), indent=2)}
```
"""
    write_text(config.out / REPORT, text)


def evaluations_table(history: Sequence[Mapping[str, float]], judge: str, num_samples: int) -> str:
    """FD of each evaluation as Markdown.

    Example:
        >>> rows = [(0, 4.0), (2, 1.5), (4, 2.0)]
        >>> history = [{"round": r, "trajectories": 8 * r, "frechet_distance": d} for r, d in rows]
        >>> print(evaluations_table(history, "b-judge", 9))
        | | round | trajectories | FD (b-judge, N = 9) |
        | --- | ---: | ---: | ---: |
        | start | [0](samples/round_00000.png) | 0 | 4.00 |
        | best | [2](samples/round_00002.png) | 16 | 1.50 |
        | last | [4](samples/round_00004.png) | 32 | 2.00 |
    """
    lines = [
        f"| | round | trajectories | FD ({judge}, N = {num_samples}) |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row, name in _named(history):
        link = f"[{row['round']:.0f}]({_picture(row)})"
        cells = [link, f"{row['trajectories']:.0f}", f"{row['frechet_distance']:.2f}"]
        lines.append(f"| {name} | ".replace("|  |", "| |") + " | ".join(cells) + " |")
    return "\n".join(lines)


def quantities_table(actions: Actions) -> str:
    """Mean and spread of m, tau_1, tau_2, w as Markdown, a row for each step.

    Example:
        >>> number = {"mean": [0.5, 0.25], "std": [0.0, 0.125]}
        >>> print(quantities_table(dict.fromkeys(COLUMNS, number)).splitlines()[-1])
        | 2 | | 0.25 ± 0.12 | | 0.25 ± 0.12 |
    """
    lines = [
        "| step | re-mask ratio m | sampling temperature tau_1 | re-mask temperature tau_2 "
        "| guidance scale w |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    num_steps = len(actions[COLUMNS[0]]["mean"])
    for step in range(num_steps):
        cells = [f"| {step + 1} |"]
        for name in COLUMNS:
            mean, std = (actions[name][key][step] for key in ("mean", "std"))
            idle = step == num_steps - 1 and name in _IDLE_AT_LAST_STEP
            cells.append(" |" if idle else f" {mean:.2f} ± {std:.2f} |")
        lines.append("".join(cells))
    return "\n".join(lines)


def evaluation_command(config: TrainConfig, policy: str, out: str) -> list[str]:
    """The words of a `nat-eval` command for a policy that a training of `config` gave."""
    words = ["nat-eval", "--policies", "heuristic", policy, "--num-steps", str(config.num_steps)]
    return [*words, "--num-samples", "10000", "--out", out]


def _named(history: Sequence[Mapping[str, float]]) -> list[tuple[Mapping[str, Any], str]]:
    """Each evaluation and what it is: start, best, last, or nothing of these."""
    best = min(range(len(history)), key=lambda i: history[i]["frechet_distance"])
    places = {"start": 0, "best": best, "last": len(history) - 1}
    return [
        (row, ", ".join(name for name, place in places.items() if place == index))
        for index, row in enumerate(history)
    ]


def _picture(row: Mapping[str, float]) -> str:
    return f"samples/round_{int(row['round']):05d}.png"
