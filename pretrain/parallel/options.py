"""The options of a training that may run in several processes: light to import."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from nat_env.commands.computation import DeviceOptions

MixedPrecision = Literal["no", "bf16", "fp16"]
"""As accelerate calls them."""


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions(DeviceOptions):
    """Where and how it computes: alone, or in several processes that accelerate launches."""

    mixed_precision: MixedPrecision = "no"
    """Of the passes through what is trained; weights, losses and optimizers stay in float32. fp16
    is for GPUs without bf16."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Passes over which a process spreads its share of each batch, for less memory; the batch stays
    as large, and the result is the same but for rounding. Judge and trunk, which are small and
    normalise over batches, take one pass in any case."""
