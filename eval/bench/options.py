"""What can be said to nat-bench about each of its parts."""

import math
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import tyro

Dtype = Literal["float32", "bfloat16", "auto"]
RandomNAT = Literal["papers", "small", "tiny"]
"""A U-ViT with random weights, of `decode.UVITS`."""


@dataclass(frozen=True)
class _PartOptions:
    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: nothing to measure, or a number below 1.
        """
        for field in fields(self):
            given = getattr(self, field.name)
            values = given if isinstance(given, tuple) else (given,)
            if not values or any(type(value) is int and value < 1 for value in values):
                raise ValueError(f"{field.name}: got {given}, allowed is one or more, each >= 1")


@dataclass(frozen=True)
class DecodeOptions(_PartOptions):
    """Options of the part `decode`."""

    bundles: tuple[str, ...] = ("fashion",)
    """Shipped names or folders."""
    num_steps: tuple[int, ...] = (4, 8)
    """Values of T."""
    batch_sizes: tuple[int, ...] = (16, 256)
    dtypes: tuple[Dtype, ...] = ("float32", "auto")
    """Of the transformer, in this library's loop; the authors' loop is in float32. auto: bfloat16
    where the hardware multiplies it fast."""
    policy: str = "untrained"
    """A policy network before its training, which does what the heuristic does, or whatever
    nat-eval takes for a policy."""
    papers_size: bool = True
    """Also a U-ViT with random weights at the papers' size S: minutes on a CPU."""
    large: Annotated[RandomNAT, tyro.conf.Suppress] = "papers"
    large_num_steps: int = 8
    """T of that one."""
    large_batch_size: int = 16


@dataclass(frozen=True)
class EnvOptions(_PartOptions):
    """Options of the part `env`."""

    bundle: str = "fashion"
    """A shipped bundle's name or a folder."""
    num_envs: int = 256
    num_steps: int = 4
    """T."""
    dtype: Dtype = "auto"
    """Of the transformer."""


@dataclass(frozen=True)
class TrainOptions(_PartOptions):
    """Options of the part `train`."""

    preset: str = "fashion"
    """Of nat-train; all else is its configuration's."""
    trajectories_per_round: int | None = None
    """In place of the preset's."""
    num_envs: int | None = None
    """Sub-environments, which divide the trajectories; by default as many."""


@dataclass(frozen=True)
class ScaleOptions(_PartOptions):
    """Options of the part `scale`: at least two sizes on each axis."""

    bundle: str = "fashion"
    """A shipped bundle's name or a folder; for numbers of environments and of steps."""
    num_envs: tuple[int, ...] = (16, 64, 256, 1024)
    token_grid: tuple[int, ...] = (7, 10, 16, 32)
    """Tokens along each side of a U-ViT with random weights; N is the square."""
    num_steps: tuple[int, ...] = (4, 8, 16, 32)
    """Values of T."""
    trajectories: tuple[int, ...] = (256, 1024, 4096)
    """Of a round of training."""
    preset: str = "digits"
    """Of nat-train, for those."""
    round_num_envs: int = 256
    """Sub-environments of a round; divides every number of trajectories."""
    batch_size: int = 32
    """Samples decoded at once, where the number of environments does not say it."""
    dtype: Dtype = "auto"
    """Of the transformer."""
    nat: Annotated[RandomNAT, tyro.conf.Suppress] = "small"

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: an axis without two different sizes, a number of trajectories that is no
                multiple of the environments, or one below 1.
        """
        super().__post_init__()
        for name in ("num_envs", "token_grid", "num_steps", "trajectories"):
            sizes = getattr(self, name)
            if len(set(sizes)) < 2:
                raise ValueError(f"{name}: got {sizes}, allowed are two different sizes or more")
        if math.gcd(*self.trajectories) % self.round_num_envs:
            raise ValueError(
                f"trajectories: got {self.trajectories}, allowed are multiples of "
                f"round_num_envs = {self.round_num_envs}"
            )


@dataclass(frozen=True)
class StartOptions(_PartOptions):
    """Options of the part `start`."""

    bundle: str = "fashion"
    """A shipped bundle's name or a folder."""
    num_steps: int = 4
    """T."""


QUICK: dict[str, Any] = {
    "decode": DecodeOptions(
        ("digits",), (2,), (2,), large="tiny", large_num_steps=2, large_batch_size=2
    ),
    "env": EnvOptions("digits", num_envs=4, num_steps=2),
    "train": TrainOptions("digits", trajectories_per_round=8),
    "scale": ScaleOptions(
        "digits", (2, 4), (2, 4), (2, 4), (4, 8), round_num_envs=2, batch_size=2, nat="tiny"
    ),
    "start": StartOptions("digits", num_steps=2),
}
"""The parts' options for `--quick`."""
