"""How time and memory grow with the number of environments, of tokens, and of steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import tyro

from eval.bench import environment, loops
from eval.bench.environment import EnvOptions
from eval.bench.loops import Contestant, Setting
from eval.bench.memory import peak_memory
from eval.bench.report import Row, Section
from eval.bench.subjects import square_grid
from eval.bench.timing import Spread, interleaved
from nat_env.models.uvit import UViTConfig

SMALL = UViTConfig(codebook_size=256, num_tokens=49, num_classes=10)
"""128 wide and 7 deep, near to what the fashion bundle has."""


@dataclass(frozen=True)
class ScaleOptions:
    """Options of the part `scale`."""

    bundle: str = "fashion"
    """A shipped bundle's name or a folder; for numbers of environments and of steps."""
    num_envs: tuple[int, ...] = (16, 64, 256, 1024, 4096)
    num_tokens: tuple[int, ...] = (49, 100, 256, 529, 1024)
    """N of U-ViTs with random weights; squares."""
    num_steps: tuple[int, ...] = (4, 8, 16, 32)
    """Values of T."""
    batch_size: int = 32
    """Samples decoded at once, where the number of environments does not say it."""
    dtype: str = "auto"
    """Of the transformer."""
    uvit: Annotated[UViTConfig, tyro.conf.Suppress] = SMALL

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: an axis without two different sizes, or a number of tokens that is no
                square.
        """
        for name in ("num_envs", "num_tokens", "num_steps"):
            sizes = getattr(self, name)
            if len(set(sizes)) < 2 or min(sizes) < 1:
                raise ValueError(f"{name}: got {sizes}, allowed are two different sizes >= 1")
        for count in self.num_tokens:
            _ = square_grid(count)


def growth_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log(value) over log(size), by least squares: values grow as size^slope.

    Args:
        sizes: two different ones at least, > 0.
        values: one for each, > 0.

    Raises:
        ValueError: fewer than two different sizes, or a number that is not positive.

    Example:
        >>> round(growth_exponent([1, 2, 4], [3, 12, 48]), 6)
        2.0
    """
    if len(set(sizes)) < 2 or min(sizes) <= 0 or min(values) <= 0:
        raise ValueError(
            f"sizes, values: got {list(sizes)}, {list(values)}, allowed are positive numbers and "
            "two different sizes"
        )
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def run(options: ScaleOptions, repeats: int) -> list[Section]:
    """Measure.

    Raises:
        ValueError: an unknown bundle, fewer than two sizes, or a number that is not allowed.
    """
    environments = EnvOptions(options.bundle, num_steps=4, dtype=options.dtype)
    random = Setting(options.uvit, 4, options.batch_size)
    tokens = {n: replace(options.uvit, num_tokens=n) for n in options.num_tokens}
    decoded = {
        "tokens N": {n: replace(random, sizes=sizes) for n, sizes in tokens.items()},
        "steps T": {n: Setting(options.bundle, n, options.batch_size) for n in options.num_steps},
    }
    works = {
        "environments": {
            n: Work(environment.prepared, replace(environments, num_envs=n))
            for n in options.num_envs
        }
    } | {
        axis: {n: Work(loops.prepared, Contestant(s, options.dtype)) for n, s in settings.items()}
        for axis, settings in decoded.items()
    }
    rows = [row for axis, sizes in works.items() for row in _rows(axis, sizes, repeats)]
    note = (
        f"Environments: bundle {options.bundle}, T = 4, made and stepped through an episode each. "
        f"Tokens: U-ViTs {options.uvit.hidden_size} wide and {options.uvit.depth} deep with random "
        f"weights, T = 4, batch {options.batch_size}. Steps: bundle {options.bundle}, batch "
        f"{options.batch_size}. Memory: peak above what was resident with the models loaded, in a "
        "process of its own."
    )
    about = "Slope of the logarithms: 1 for what grows in proportion, 0 for what does not grow."
    return [Section("Growth", rows, note), Section("Growth: exponents", exponents(rows), about)]


@dataclass(frozen=True)
class Work:
    """What is measured at one size."""

    prepare: Callable[[Any], Callable[[], None]]
    """A module's function that loads and gives the work."""
    options: Any


def _rows(axis: str, works: Mapping[int, Work], repeats: int) -> list[Row]:
    contestants = {str(n): work.prepare(work.options) for n, work in works.items()}
    seconds = interleaved(contestants, repeats)
    memory = {n: peak_memory(work.prepare, work.options).rise for n, work in works.items()}
    return [
        {"axis": axis, "size": n, "seconds": Spread.of(seconds[str(n)]), "memory_mb": memory[n]}
        for n in works
    ]


def exponents(rows: Sequence[Row]) -> list[Row]:
    """For each axis of `rows`: the exponents of median time and of memory."""
    result = []
    for axis in dict.fromkeys(row["axis"] for row in rows):
        own = [row for row in rows if row["axis"] == axis]
        sizes = [row["size"] for row in own]
        result.append(
            {
                "axis": axis,
                "sizes": ", ".join(map(str, sizes)),
                "time_exponent": growth_exponent(sizes, [row["seconds"].median for row in own]),
                "memory_exponent": growth_exponent(sizes, [row["memory_mb"] for row in own]),
            }
        )
    return result
