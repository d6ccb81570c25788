"""How time and memory grow with the numbers of environments, tokens, steps and trajectories."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from agents.learners.config import TrainConfig
from agents.learners.factory import make_learner
from agents.learners.vec_env import GymnasiumVecEnv
from eval.bench import environment, loops
from eval.bench.environment import EnvOptions
from eval.bench.loops import Contestant, Setting
from eval.bench.memory import held_memory, peak_memory
from eval.bench.report import Row, Section
from eval.bench.subjects import square_grid
from eval.bench.timing import Spread, interleaved
from eval.bench.training import default_buffer
from nat_env.bundles.bundle import load_bundle
from nat_env.models.uvit import UViTConfig
from nat_env.vector_env import NATDecodeVectorEnv

IN_A_FILE = "trajectories, kept in a file"

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
    trajectories: tuple[int, ...] = (1024, 4096, 16384)
    """Of a rollout of PPO, which is kept in memory, in a file, and in the default buffer."""
    rollout_bundle: str = "digits"
    """For those."""
    rollout_num_envs: int = 256
    """Sub-environments of a rollout; divides every number of trajectories."""
    batch_size: int = 32
    """Samples decoded at once, where the number of environments does not say it."""
    dtype: Literal["float32", "bfloat16", "auto"] = "auto"
    """Of the transformer."""
    uvit: Annotated[UViTConfig, tyro.conf.Suppress] = SMALL

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: an axis without two different sizes, a number of tokens that is no square,
                of trajectories that is no multiple of the environments, or one below 1.
        """
        for name in ("batch_size", "rollout_num_envs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed is >= 1")
        for name in ("num_envs", "num_tokens", "num_steps", "trajectories"):
            sizes = getattr(self, name)
            if len(set(sizes)) < 2 or min(sizes) < 1:
                raise ValueError(f"{name}: got {sizes}, allowed are two different sizes >= 1")
        for count in self.num_tokens:
            _ = square_grid(count)
        if any(count % self.rollout_num_envs for count in self.trajectories):
            raise ValueError(
                f"trajectories: got {self.trajectories}, allowed are multiples of "
                f"rollout_num_envs = {self.rollout_num_envs}"
            )


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
    setting = Setting(options.bundle, 4, options.batch_size, hidden_size=128)
    tokens = {n: replace(options.uvit, num_tokens=n) for n in options.num_tokens}
    decoded = {
        "tokens N": {n: replace(setting, sizes=sizes) for n, sizes in tokens.items()},
        "steps T": {n: replace(setting, num_steps=n) for n in options.num_steps},
    }
    rollouts = {
        "trajectories": (prepared, None),
        IN_A_FILE: (prepared, Path(gettempdir())),
        "trajectories, default buffer": (prepared_with_default_buffer, None),
    }
    works = {
        "environments": {
            n: Work(environment.prepared, replace(environments, num_envs=n))
            for n in options.num_envs
        }
    }
    works |= {
        axis: {n: Work(loops.prepared, Contestant(s, options.dtype)) for n, s in settings.items()}
        for axis, settings in decoded.items()
    }
    works |= {
        axis: {
            n: Work(prepare, rollout_config(options, n, folder), held=True)
            for n in options.trajectories
        }
        for axis, (prepare, folder) in rollouts.items()
    }
    rows = [row for axis, sizes in works.items() for row in _rows(axis, sizes, repeats)]
    note = (
        f"Environments: bundle {options.bundle}, T = 4, made and stepped through an episode each. "
        f"Tokens: U-ViTs {options.uvit.hidden_size} wide and {options.uvit.depth} deep with random "
        f"weights, T = 4, batch {options.batch_size}. Steps: bundle {options.bundle}, batch "
        f"{options.batch_size}. Memory: peak above what was resident with the models loaded, in a "
        "process of its own. Trajectories: a rollout of nat-train's PPO on the bundle "
        f"{options.rollout_bundle}, T = 4, {options.rollout_num_envs} environments, without the "
        "update; default buffer: stable-baselines3's, in float32. Memory of those: what is held at "
        "the end, less the pages of files, which the system takes back when it needs room; left "
        "out where the system does not tell."
    )
    about = (
        "Slope of the logarithms: 1 for what grows in proportion, 0 for what does not grow. Last: "
        "from the last size but one to the last."
    )
    return [Section("Growth", rows, note), Section("Growth: exponents", exponents(rows), about)]


@dataclass(frozen=True)
class Work:
    """What is measured at one size."""

    prepare: Callable[[Any], Callable[[], Any]]
    """A module's function that loads and gives the work."""
    options: Any
    held: bool = False
    """Whether memory is what is held at the end, and not the peak."""

    @property
    def memory_mb(self) -> float | None:
        """What the work takes; None where the system does not tell."""
        found = (held_memory if self.held else peak_memory)(self.prepare, self.options)
        return None if found is None else found.rise


def rollout_config(options: ScaleOptions, trajectories: int, folder: Path | None) -> TrainConfig:
    """Of a training whose first round is a rollout to learn from, kept in `folder` if given."""
    return TrainConfig(
        Path(),
        bundle=options.rollout_bundle,
        num_steps=4,
        trajectories=trajectories,
        trajectories_per_round=trajectories,
        num_envs=options.rollout_num_envs,
        rollout_folder=folder,
        hidden_size=64,
        batch_size=4,  # divides every round; there are no gradient steps
        reward="judge",
        warmup_rounds=0,
        dtype=options.dtype,
    )


def prepared(config: TrainConfig) -> Callable[[], None]:
    """A rollout to collect, which is held until the next one."""
    return _rollout(_learner(config))


def prepared_with_default_buffer(config: TrainConfig) -> Callable[[], None]:
    """The same in stable-baselines3's own buffer."""
    model = _learner(config)
    model.rollout_buffer = default_buffer(model)
    return _rollout(model)


def _learner(config: TrainConfig) -> Any:
    bundle = load_bundle(config.bundle, config.dtype)
    _ = bundle.tokenizer
    env = NATDecodeVectorEnv(
        config.environments, bundle, config.num_steps, residual=config.residual
    )
    return make_learner(config, GymnasiumVecEnv(env, copy_observations=False), bundle)


def _rollout(model: Any) -> Callable[[], None]:
    model.train = lambda: None
    # However few steps are asked for, it collects whole rollouts.
    return lambda: model.learn(1, log_interval=None, reset_num_timesteps=False)


def _rows(axis: str, works: Mapping[int, Work], repeats: int) -> list[Row]:
    contestants = {str(n): work.prepare(work.options) for n, work in works.items()}
    seconds = interleaved(contestants, repeats)
    return [
        {
            "axis": axis,
            "size": n,
            "seconds": Spread.of(seconds[str(n)]),
            "memory_mb": work.memory_mb,
        }
        for n, work in works.items()
    ]


def exponents(rows: Sequence[Row]) -> list[Row]:
    """For each axis of `rows`: the exponents of median time and, where it is known, of memory.

    One slope for all sizes hides what sets in at the largest, so that of the two largest is beside.
    """
    result = []
    for axis in dict.fromkeys(row["axis"] for row in rows):
        own = sorted((row for row in rows if row["axis"] == axis), key=lambda row: row["size"])
        sizes = [row["size"] for row in own]
        found: Row = {"axis": axis, "sizes": ", ".join(map(str, sizes))}
        values = {
            "time": [row["seconds"].median for row in own],
            "memory": [row["memory_mb"] for row in own],
        }
        for what, grown in values.items():
            if None not in grown:
                found[f"{what}_exponent"] = growth_exponent(sizes, grown)
                found[f"last_{what}_exponent"] = growth_exponent(sizes[-2:], grown[-2:])
        result.append(found)
    return result
