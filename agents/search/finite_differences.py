"""AutoNAT's search for a schedule: gradient descent on forward differences (4.2, A.2)."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from agents.search.arguments import FiniteDifferencesConfig
from agents.search.objective import Objective
from agents.search.proposals import Proposal, Proposals
from nat_env.decoding.quantities import COLUMNS
from nat_env.samplers.names import sampler_label
from nat_env.schedules import Schedule, check_length, heuristic_schedule

INITIALISATIONS = "'heuristic', 'naive' or a schedule's file"


def initial_schedule(name: str, num_steps: int) -> Schedule:
    """Where a search starts (A.2).

    Raises:
        ValueError: neither a name nor a file, or a schedule of another T.

    Example:
        >>> initial_schedule("naive", 4).table[:, 0]
        tensor([0.7500, 0.5000, 0.2500, 0.0000])
    """
    if name == "heuristic":
        return heuristic_schedule(num_steps)
    if name == "naive":
        table = torch.ones(num_steps, 4)
        table[:, 0] = 1 - torch.arange(1, num_steps + 1) / num_steps
        return Schedule(table, name)
    if not Path(name).is_file():
        raise ValueError(f"initialisation: got {name!r}, allowed are {INITIALISATIONS}")
    schedule = Schedule.load(Path(name))
    if schedule.sampler is not None:
        raise ValueError(
            f"initialisation: {name!r} is for the sampler {sampler_label(schedule.sampler)}, "
            "allowed is a schedule without one"
        )
    check_length("initialisation", name, schedule.num_steps, num_steps)
    return schedule


def free_entries(num_steps: int) -> list[tuple[int, int]]:
    """Row and column of what has an effect: all but m and tau_2 of the last step.

    Example:
        >>> len(free_entries(8))  # the authors' 4 T - 2
        30
    """
    last = num_steps - 1
    return [(t, c) for t in range(num_steps) for c in range(4) if t < last or c in (1, 3)]


def allowed_table(table: Tensor) -> Tensor:
    """The nearest table of a `Schedule`: m in [0, 1], all others >= 0; the last m is 0."""
    table = table.clamp(min=0)
    table[:, 0] = table[:, 0].clamp(max=1)
    table[-1, 0] = 0
    return table


def probe_steps(
    steps: tuple[float, float, float, float], num_tokens: int
) -> tuple[float, float, float, float]:
    """`steps` with that of m at least one token: floor(N m) tokens are re-masked.

    A.2's 0.01 is 2.6 tokens of ImageNet's 256; of 49 it may be none, and the quotient 0. The step
    is a thousandth more than 1 / N: of exactly that, rounding makes none where N m is whole.

    Example:
        >>> [round(step, 5) for step in probe_steps((0.01, 0.1, 0.1, 0.1), num_tokens=50)]
        [0.02002, 0.1, 0.1, 0.1]
    """
    return max(steps[0], (1 + 1e-3) / num_tokens), *steps[1:]


def perturbed(table: Tensor, row: int, column: int, step: float) -> Tensor:
    """`table` with one entry a step higher, or lower where m cannot rise."""
    moved = table.clone()
    up = column != 0 or float(table[row, column]) + step <= 1
    moved[row, column] += step if up else -step
    return moved


def finite_differences(
    num_steps: int, config: FiniteDifferencesConfig, num_tokens: int
) -> Proposals:
    """Tables to be scored, one after the other, for ever; each score is sent back.

    xi <- xi - eta * gradient, whose entries are (F(xi + eps e_i) - F(xi)) / eps (4.2). Only the
    iterates xi are candidates for the best schedule: a perturbed one is a probe.

    Args:
        num_steps: T.
        config: start, steps and rates.
        num_tokens: N, tokens of an image.
    """
    steps = probe_steps(config.steps, num_tokens)
    table = allowed_table(initial_schedule(config.initialisation, num_steps).table.clone())
    columns = [nn.Parameter(column) for column in table.unbind(1)]  # they share its memory
    optimizer = torch.optim.SGD(
        [{"params": c, "lr": r} for c, r in zip(columns, config.learning_rates, strict=True)],
        momentum=config.momentum,
    )
    entries = [e for e in free_entries(num_steps) if config.learning_rates[e[1]] > 0]
    while True:
        base = yield Proposal(table.clone(), candidate=True)
        gradient = torch.zeros_like(table)
        for row, column in entries:
            probe = perturbed(table, row, column, steps[column])
            value = yield Proposal(probe, candidate=False)
            gradient[row, column] = (value - base) / float(probe[row, column] - table[row, column])
        for column, slope in zip(columns, gradient.unbind(1), strict=True):
            column.grad = slope
        if config.clip is not None:
            nn.utils.clip_grad_value_(columns, config.clip)
        optimizer.step()
        table.copy_(allowed_table(table))


def gradient_variance(
    objective: Objective, schedule: Schedule, config: FiniteDifferencesConfig, repeats: int
) -> dict[str, float]:
    """Variance of the estimated gradient over repeats, for each quantity, the mean over its steps.

    Each repeat draws new random numbers. Within one, an objective with common random numbers uses
    the same for all its scores.

    Args:
        objective: is left with another seed than before.
        schedule: where the gradient is taken.
        config: the steps.
        repeats: >= 2.

    Raises:
        ValueError: fewer repeats.
    """
    if repeats < 2:
        raise ValueError(f"repeats: got {repeats}, allowed is >= 2")
    table, gradients = schedule.table, []
    entries = free_entries(schedule.num_steps)
    steps = probe_steps(config.steps, objective.bundle.nat.num_tokens)
    for _ in range(repeats):
        objective.next_random_numbers()
        base = objective(schedule)
        gradients.append([])
        for row, column in entries:
            probe = perturbed(table, row, column, steps[column])
            difference = objective(Schedule(probe)) - base
            gradients[-1].append(difference / float(probe[row, column] - table[row, column]))
    variances = np.var(gradients, axis=0, ddof=1)  # [entries]
    columns = np.array([column for _, column in entries])
    return {
        name: float(variances[columns == column].mean())
        for column, name in enumerate(COLUMNS)
        if column in columns
    }
