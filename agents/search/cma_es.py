"""CMA-ES (Hansen 2016) on the table of a schedule."""

from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.search.arguments import CmaEsConfig
from agents.search.finite_differences import allowed_table, free_entries, initial_schedule
from agents.search.proposals import Proposal, Proposals


def cma_points(
    size: int, seed: int, population: int | None = None
) -> Generator[NDArray[np.float64], float, None]:
    """Points of CMA-ES, one after the other, for ever; the value of each is sent back.

    Args:
        size: number of variables. The first point is 0, the first population has deviation 1.
        seed: of the strategy's own generator.
        population: by default 4 + 3 log(size).
    """
    import cma

    random = np.random.RandomState(seed)
    options = {
        "randn": random.randn,
        "seed": np.nan,  # leaves numpy's global generator alone
        "verbose": -9,
    }
    if population is not None:
        options["popsize"] = population
    yield np.zeros(size)
    strategy = cma.CMAEvolutionStrategy(np.zeros(size), 1.0, options)
    while True:
        points = strategy.ask()
        values = []
        for point in points:
            values.append((yield point))
        strategy.tell(points, values)


def cma_es(num_steps: int, config: CmaEsConfig, seed: int) -> Proposals:
    """Tables to be scored, one after the other, for ever; each score is sent back.

    The variables are the free entries in units of their scale; a table outside of what a schedule
    allows is scored at its projection.
    """
    start = allowed_table(initial_schedule(config.initialisation, num_steps).table.clone())
    entries = free_entries(num_steps)
    points = cma_points(len(entries), seed, config.population)
    point = next(points)
    while True:
        table = moved_table(start, point, config.scales)
        point = points.send((yield Proposal(table, candidate=True)))


def moved_table(
    start: Tensor, point: NDArray[np.float64], scales: tuple[float, float, float, float]
) -> Tensor:
    """`start` [T, 4] with its free entries moved by `point`, in units of `scales`, and projected.

    Example:
        >>> moved_table(torch.ones(1, 4), np.array([2.0, -3.0]), (0.1, 0.3, 0.3, 0.3))
        tensor([[0.0000, 1.6000, 1.0000, 0.1000]])
    """
    rows, columns = np.array(free_entries(len(start))).T
    table = start.clone()
    table[rows, columns] += torch.from_numpy(point * np.array(scales)[columns]).float()
    return allowed_table(table)
