"""How time and memory grow with environments, tokens, steps, trajectories and classes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log
from statistics import linear_regression
from typing import Any

from eval.bench import environment, training
from eval.bench.contestants import UVITS, Contestant, prepared_batch
from eval.bench.measuring.memory import peak_memory
from eval.bench.measuring.report import Row, Section, target
from eval.bench.measuring.timing import by_turns
from eval.bench.options import EnvOptions, ScaleOptions, TrainOptions

IN_PROPORTION = 1.05
"""An exponent that stands for growth in proportion."""

Work = tuple[Callable[[Any], Callable[[], Any]], Any]
"""A module's function that loads and gives the work, and what it is given."""


def works(options: ScaleOptions) -> dict[str, dict[int, Work]]:
    """What is measured, by axis and size."""
    environments = EnvOptions(
        options.bundle, num_steps=4, dtype=options.dtype, device=options.device
    )
    batch = Contestant(
        options.bundle, 4, options.batch_size, options.dtype, hidden_size=128, device=options.device
    )
    uvit = UVITS[options.nat]
    tokens = {side**2: replace(uvit, grid=(side, side)) for side in options.token_grid}
    rounds = {
        count: training.configuration(
            TrainOptions(options.preset, count, options.round_num_envs, device=options.device)
        )
        for count in options.trajectories
    }
    of_classes = replace(batch, num_steps=2, batch_size=options.class_batch_size)
    classes = {n: replace(UVITS[options.class_nat], num_classes=n) for n in options.classes}
    return {
        "environments": {
            n: (environment.prepared, replace(environments, num_envs=n)) for n in options.num_envs
        },
        "tokens N": {n: (prepared_batch, replace(batch, nat=sizes)) for n, sizes in tokens.items()},
        "steps T": {n: (prepared_batch, replace(batch, num_steps=n)) for n in options.num_steps},
        "trajectories": {n: (training.prepared, config) for n, config in rounds.items()},
        "classes": {
            n: (prepared_batch, replace(of_classes, nat=sizes)) for n, sizes in classes.items()
        },
    }


def run(options: ScaleOptions, repeats: int) -> list[Section]:
    """Measure; an unknown bundle or preset is a ValueError."""
    rows: list[Row] = []
    for axis, sizes in works(options).items():
        seconds = by_turns({str(n): prepare(x) for n, (prepare, x) in sizes.items()}, repeats)
        rows += [
            {"axis": axis, "size": n, "seconds": spent, "memory_mb": peak_memory(*work).rise}
            for (n, work), spent in zip(sizes.items(), seconds.values(), strict=True)
        ]
    uvit = UVITS[options.nat]
    note = (
        f"Environments: bundle {options.bundle}, T = 4, made and stepped through an episode each. "
        f"Tokens: U-ViTs {uvit.hidden_size} wide and {uvit.depth} deep with random weights, T = 4, "
        f"batch {options.batch_size}. Steps: bundle {options.bundle}, batch {options.batch_size}. "
        f"Trajectories: of a round of nat-train's preset {options.preset}, in "
        f"{options.round_num_envs} environments. Classes: U-ViTs of the size {options.class_nat}, "
        f"T = 2, batch {options.class_batch_size}. Memory: peak above what was resident with all "
        "loaded, in a process of its own."
    )
    about = (
        "Slope of the logarithms: 1 for what grows in proportion, 0 for what does not grow. Last: "
        "from the last size but one to the last, for one slope hides what sets in at the largest."
    )
    slopes = exponents(rows)
    return [
        Section("Growth", rows, note),
        Section("Growth: exponents", slopes, about, targets(slopes)),
    ]


def growth_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log(value) over log(size), by least squares: values grow as size^slope.

    Example:
        >>> round(growth_exponent([1, 2, 4], [3, 12, 48]), 6)
        2.0
    """
    return linear_regression([log(x) for x in sizes], [log(y) for y in values]).slope


def exponents(rows: Sequence[Row]) -> list[Row]:
    """For each axis of `rows`: the exponents of median time and of memory."""
    result = []
    for axis in dict.fromkeys(row["axis"] for row in rows):
        own = sorted((row for row in rows if row["axis"] == axis), key=lambda row: row["size"])
        sizes = [row["size"] for row in own]
        found: Row = {"axis": axis, "sizes": ", ".join(map(str, sizes))}
        seconds, memory = [r["seconds"].median for r in own], [r["memory_mb"] for r in own]
        for what, values in (("time", seconds), ("memory", memory)):
            found[f"{what}_exponent"] = growth_exponent(sizes, values)
            found[f"last_{what}_exponent"] = growth_exponent(sizes[-2:], values[-2:])
        result.append(found)
    return result


def targets(slopes: Sequence[Row]) -> list[Row]:
    """What is held against a limit: growth in all."""
    return [
        target(f"{name.replace('_', ' ')} in {row['axis']}", row[name], at_most=IN_PROPORTION)
        for row in slopes
        for name in row
        if name.endswith("exponent")
    ]
