"""What a sampler is."""

from typing import Protocol

from torch import Tensor

from nat_env.decoding.remasking import Sampling
from nat_env.frozen.nat import FrozenNAT


class Sampler(Protocol):
    """A rule and its numbers, a frozen dataclass; what it remembers of a batch is a `Sampling`."""

    def begin(self, nat: FrozenNAT, free: Tensor, conditions: Tensor) -> Sampling:
        """Begin to decode a batch.

        Args:
            nat: the frozen transformer.
            free: what is masked at the start [B, N] bool; the rest is given, and stays.
            conditions: labels [B].
        """
        ...
