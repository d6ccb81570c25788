"""CMA-ES (Hansen 2016) on the table of a schedule."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agents.finite_differences import allowed_table, free_entries, initial_schedule
from agents.proposals import Proposal, Proposals


@dataclass(frozen=True)
class CmaEsConfig:
    """How CMA-ES starts."""

    initialisation: str = "heuristic"
    """See `FiniteDifferencesConfig`."""
    scales: tuple[float, float, float, float] = (0.1, 0.3, 0.3, 0.3)
    """Standard deviation of the first population, for m, tau_1, tau_2, w."""
    population: int | None = None
    """By default 4 + 3 log(number of free entries)."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: one is not allowed.
        """
        if min(self.scales) <= 0:
            raise ValueError(f"scales: got {self.scales}, allowed are numbers > 0")
        if self.population is not None and self.population < 4:
            raise ValueError(f"population: got {self.population}, allowed is >= 4 or None")


def cma_es(num_steps: int, config: CmaEsConfig, seed: int) -> Proposals:
    """Tables to be scored, one after the other, for ever; each score is sent back.

    The variables are the free entries in units of their scale; a table outside of what a schedule
    allows is scored at its projection.
    """
    import cma

    start = allowed_table(initial_schedule(config.initialisation, num_steps).table.clone())
    rows, columns = np.array(free_entries(num_steps)).T
    scales = np.array(config.scales)[columns]

    def table_of(x: np.ndarray) -> Tensor:
        table = start.clone()
        table[rows, columns] += torch.from_numpy(x * scales).float()
        return allowed_table(table)

    random = np.random.RandomState(seed)
    options = {
        "randn": random.randn,
        "seed": np.nan,  # leaves numpy's global generator alone
        "verbose": -9,
        # Scores are noisy and the budget decides: it never stops by itself.
        "tolfun": 0, "tolx": 0, "tolfunhist": 0, "tolstagnation": np.inf, "tolflatfitness": np.inf,
    }  # fmt: skip
    if config.population is not None:
        options["popsize"] = config.population
    yield Proposal(start, candidate=True)
    strategy = cma.CMAEvolutionStrategy(np.zeros(len(rows)), 1.0, options)
    while True:
        population = strategy.ask()
        scores = []
        for x in population:
            scores.append((yield Proposal(table_of(x), candidate=True)))
        strategy.tell(population, scores)
