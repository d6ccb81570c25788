"""What all commands that decode have in common: how they compute, not what."""

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from annotated_types import Ge

from nat_env.commands.bounds import check_bounds


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where it computes."""

    device: str = "cpu"
    """A torch device."""
    threads: Annotated[int, Ge(1)] | None = None
    """Torch threads. By default OMP_NUM_THREADS, or as many as there are cores, 4 at most."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: one is out of its bounds.
        """
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class Computation(DeviceOptions):
    """How it computes."""

    batch_size: Annotated[int, Ge(1)] = 128
    """Samples decoded at once."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the transformer; auto: bfloat16 where the hardware multiplies it fast."""

    def computation(self) -> dict[str, Any]:
        """These options alone, for another command that this one calls."""
        return {field.name: getattr(self, field.name) for field in fields(Computation)}
