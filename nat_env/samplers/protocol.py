"""What a sampler is."""

from typing import Protocol

from torch import Tensor

from nat_env.decoding.quantities import COLUMNS, Quantity
from nat_env.decoding.remasking import Sampling
from nat_env.frozen.nat import FrozenNAT


class Sampler(Protocol):
    """A rule and its numbers, a frozen dataclass; what it remembers of a batch is a `Sampling`.

    One that has `quantities`, a tuple of `Quantity` named as numbers of its own, takes these by
    sample and step where a policy decides them, in columns of the actions after the four; at most
    one, the last, is `of_tokens`. `unused` names those of the four that have no effect by it.
    """

    def begin(self, nat: FrozenNAT, free: Tensor, conditions: Tensor) -> Sampling:
        """Begin to decode a batch.

        Args:
            nat: the frozen transformer.
            free: what is masked at the start [B, N] bool; the rest is given, and stays.
            conditions: labels [B].
        """
        ...


def default_quantities(sampler: Sampler | None) -> tuple[str, ...]:
    """Those of the four that have an effect, and what is decided by token.

    Example:
        >>> from nat_env.samplers.entropy_bound import EntropyBound
        >>> default_quantities(EntropyBound(1.0))
        ('sampling_temperature', 'guidance_scale')
    """
    unused = getattr(sampler, "unused", ())
    usual = tuple(name for name in COLUMNS if name not in unused)
    return usual + tuple(q.name for q in own_quantities(sampler) if q.of_tokens)


def own_quantities(sampler: Sampler | type | None) -> tuple[Quantity, ...]:
    """What a policy may decide beside m, tau_1, tau_2 and w."""
    return getattr(sampler, "quantities", ())
