"""What all commands that decode have in common: how they compute, not what."""

from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Computation:
    """Options of a command that decodes images."""

    batch_size: int = 128
    """Samples decoded at once."""
    threads: int = 2
    """Torch threads; one when another program is busy beside it."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the transformer; auto: bfloat16 where the hardware multiplies it fast."""
    device: str = "cpu"
    """A torch device."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: one is below 1.
        """
        for name in ("batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed is >= 1")

    def computation(self) -> dict[str, Any]:
        """These options alone, for another command that this one calls."""
        return {field.name: getattr(self, field.name) for field in fields(Computation)}
