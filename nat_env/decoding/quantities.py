"""What a step is decided by: the quantities' names, ranges, and where they have no effect."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """A number of each sample at each step."""

    name: str
    is_share: bool = False
    """In [0, 1], by a sigmoid of a raw action; else from 0 up, by a softplus."""
    is_idle_at_last: bool = False
    """No effect at the last step, where all tokens are revealed."""


QUANTITIES = (
    Quantity("remask_ratio", is_share=True, is_idle_at_last=True),
    Quantity("sampling_temperature"),
    Quantity("remask_temperature", is_idle_at_last=True),
    Quantity("guidance_scale"),
)
"""m, tau_1, tau_2, w: the columns of an action [B, 4] (Eq. 5). What a sampler takes by sample comes
after them, see `nat_env.samplers.protocol.Sampler`."""

COLUMNS = tuple(quantity.name for quantity in QUANTITIES)
"""Their names, and those of a schedule's table [T, 4]."""
