"""Mask-ratio distribution and schedule at once: what AutoNAT's alternation is compared with."""

import math
from dataclasses import dataclass

import numpy as np

from agents.search.arguments import CmaEsConfig
from agents.search.cma_es import cma_points, moved_table
from agents.search.finite_differences import free_entries
from eval.autonat.laboratory import Cost, Laboratory
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import Schedule, heuristic_schedule
from pretrain.arguments import MaskRatio
from pretrain.strategy import ProxyObjective


@dataclass(frozen=True)
class Pair:
    """What a concurrent search has found, by its own scores, and what it took."""

    mask_ratio: MaskRatio
    schedule: Schedule
    cost: Cost


def concurrent(lab: Laboratory, budget: int) -> Pair:
    """CMA-ES on both together: each point trains a proxy, and scores it as the alternation does.

    The start is the alternation's. Called with more, it goes on with the same points.

    Args:
        lab: trains the proxies; the points' scores are kept in its sub-folder `concurrent`.
        budget: row-passes. It ends with the first point by which they are spent.
    """
    setting = lab.setting
    alternation = setting.alternation(lab.seed)
    first, start = alternation.start, heuristic_schedule(setting.num_steps)
    size = len(free_entries(setting.num_steps))
    population = 4 + int(3 * math.log(size + 2))
    points = cma_points(size + 2, lab.seed, population)
    point = next(points)
    best, lowest = (first, start), float("inf")
    trained: set[str] = set()
    count = 0
    while (cost := lab.cost(len(trained), count * setting.proxy_samples))["row-passes"] < budget:
        schedule = Schedule(moved_table(start.table, point[:size], CmaEsConfig().scales))
        # The units of the line search are 1 (A.2); to four digits, for the proxy's name.
        coordinates = np.array([first.ratio, first.beta]) + point[size:]
        ratio, beta = np.maximum(coordinates, 0.1).round(4).tolist()
        mask_ratio = MaskRatio(ratio, beta)
        objective = ProxyObjective(
            lab.proxies,
            ScheduledPolicy(schedule),
            setting.num_steps,
            setting.proxy_samples,
            lab.folder / "concurrent" / str(count),
        )
        value = objective(mask_ratio)
        if value < lowest:
            best, lowest = (mask_ratio, schedule), value
        trained.add(mask_ratio.name)
        count += 1
        point = points.send(value)
    # The first point is the start, and belongs to no generation.
    made = {"points": count, f"generations of {population}": (count - 1) // population}
    return Pair(*best, dict(cost) | made)
