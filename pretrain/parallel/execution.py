"""How a training is computed: where, in which precision, in how many passes a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nat_env.parallel.processes import ALONE, Processes
from pretrain.parallel.options import MixedPrecision

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Execution:
    """What may differ between two machines that train the same: by rounding alone, but for bf16."""

    processes: Processes = ALONE
    mixed_precision: MixedPrecision = "no"
    """Of forward and backward passes; weights, losses and optimizers stay in float32."""
    passes: int = 1
    """Over which a process's share of a batch is spread, for less memory."""

    @property
    def device(self) -> torch.device:
        """Of this process."""
        return self.processes.device

    @property
    def portions(self) -> int:
        """In which a batch is computed, passes of all processes."""
        return self.processes.count * self.passes

    def check_batch_size(self, batch_size: int) -> None:
        """Check that a batch has equal portions.

        Raises:
            ValueError: it has not.
        """
        if batch_size % self.portions:
            raise ValueError(
                f"batch_size: got {batch_size}, allowed are multiples of {self.portions} "
                f"({self.processes.count} processes, accumulate {self.passes}), so that each pass "
                "has as many images"
            )

    @property
    def rows(self) -> list[slice]:
        """Of the whole batch, those of each pass of this process: every `portions`-th."""
        count, index = self.processes.count, self.processes.index
        return [slice(one * count + index, None, self.portions) for one in range(self.passes)]

    def accelerator(self) -> "Accelerator":
        """A new one, for one training: it prepares each network with a loss, and its optimizer.

        Raises:
            ValueError: float16 on a CPU.
        """
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import GradientAccumulationPlugin

        cpu = self.device.type == "cpu"
        if cpu and self.mixed_precision == "fp16":
            raise ValueError("mixed_precision: got fp16 on a CPU, allowed are no and bf16")
        state = AcceleratorState._shared_state
        asked = {"_mixed_precision": self.mixed_precision, "_cpu": cpu}
        if state and any(state.get(key) != value for key, value in asked.items()):
            # Of an earlier training of this process; accelerate allows one precision in each.
            AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(
            device_placement=False,
            mixed_precision=self.mixed_precision,
            cpu=cpu,
            gradient_accumulation_plugin=GradientAccumulationPlugin(
                num_steps=self.passes, sync_with_dataloader=False
            ),
        )

    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        """A batch [B, ...], in its own order, of what this process's passes [b, ...] have of it."""
        every = self._gathered(torch.stack(list(parts)))  # [processes * passes, b, ...]
        # Row i of the batch is row i // portions of portion i % portions.
        dealt = every.unflatten(0, (self.processes.count, self.passes)).transpose(0, 1)
        return dealt.flatten(0, 1).transpose(0, 1).flatten(0, 1)

    def read(self, scalars: Mapping[str, Tensor]) -> dict[str, float]:
        """Means over this process's rows of a batch, as those over the whole: one wait for all."""
        if not scalars:
            return {}
        values = torch.stack([value.detach().float() for value in scalars.values()])
        means = (self.processes.summed(values) / self.processes.count).tolist()
        return dict(zip(scalars, means, strict=True))

    def _gathered(self, values: Tensor) -> Tensor:
        if self.processes.count == 1:
            return values
        from accelerate.utils import gather

        return gather(values.contiguous())  # type: ignore[return-value]
