"""report.md of a run folder: what was trained, what came out, and the commands to do it again."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.learners.algorithms import algorithm_of
from agents.learners.config import TrainConfig
from agents.reports.quantities import PICTURE, quantities_table, save_policy_card
from agents.runs.checkpoint import load_about
from agents.runs.repeat import training_command
from nat_env.commands.machine import machine
from nat_env.storage.files import write_text

REPORT = "report.md"


def write_report(
    config: TrainConfig,
    judge: str | None,
    history: Sequence[Mapping[str, float]],
    seconds: float,
) -> None:
    """Write the report of a run as far as it is, and its policy card, a picture.

    Args:
        config: of the training; its folder holds the best policy.
        judge: name of the bundle's judge; None where there are no evaluations.
        history: one entry per evaluation: round, trajectories, and the scores of `validate`.
        seconds: of training so far.
    """
    on = machine()
    # Into another folder: this one holds a run, which nat-train does not overwrite.
    again = training_command(replace(config, out=Path(f"{config.out}-again")))
    done = load_about(config.out, "last")["trajectories"]
    text = f"""# A decoding policy for `{config.bundle}`

Learner `{config.algo}` ({algorithm_of(config).about}), reward `{config.reward}`, T = \
{config.num_steps} decoding steps. {done:.0f} of \
{config.rounds * config.trajectories_per_round} trajectories in {seconds:.0f} s, evaluations \
included, on {on["cpu_count"]} {on["processor"]} processors (torch threads: \
{on["torch_threads"]}, torch {on["torch"]}).

{_what_came_out(config, judge, history)}

## Commands

The training again:

    {shlex.join(again)}

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


def _what_came_out(
    config: TrainConfig, judge: str | None, history: Sequence[Mapping[str, float]]
) -> str:
    """The evaluations in numbers and pictures; draws the policy card."""
    if not history or judge is None:
        return "It was not evaluated."
    actions = load_about(config.out)["actions"]
    save_policy_card(config.out / PICTURE, actions, Path(config.bundle).name)
    pictures = "\n\n".join(
        f"{name[0].upper()}{name[1:]}, FD {row['frechet_distance']:.2f}:\n\n"
        f"![{name}]({_picture(row)})"
        for row, name in _named(history)
        if name
    )
    return f"""## Evaluations

{summary(history, judge, config.num_samples)}. The best of several noisy evaluations is too good: \
other samples of that policy score a little worse.

{evaluations_table(history, judge, config.num_samples)}

## What the best policy does

Mean ± standard deviation over the evaluation's samples. The last step reveals all: m and tau_2 \
have no effect there.

{quantities_table(actions)}

![the same, beside the heuristic schedule]({PICTURE})

## Pictures

A row for each place, a column for each class, the same random numbers in each picture.

{pictures}"""


def summary(history: Sequence[Mapping[str, float]], judge: str, num_samples: int) -> str:
    """FD at the start, at best and at the end in a line.

    Example:
        >>> history = [{"frechet_distance": distance} for distance in (4.0, 1.5, 2.0)]
        >>> summary(history, "b-judge", 9)
        'FD (b-judge, 9 samples): 4.00 at the start, 1.50 at best of 3 evaluations, 2.00 at the end'
    """
    distances = [row["frechet_distance"] for row in history]
    return (
        f"FD ({judge}, {num_samples} samples): {distances[0]:.2f} at the start, "
        f"{min(distances):.2f} at best of {len(distances)} evaluations, "
        f"{distances[-1]:.2f} at the end"
    )


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
