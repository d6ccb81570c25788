"""What a step is decided by: the quantities' names, ranges, and where they have no effect."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Quantity:
    """A number of each sample at each step, or one of each of its tokens."""

    name: str
    activation: Literal["softplus", "sigmoid", "identity"] = "softplus"
    """Of a raw action: from 0 up, in [0, 1], or any number."""
    is_idle_at_last: bool = False
    """No effect at the last step, where all tokens are revealed."""
    of_tokens: bool = False
    """One of each of the N tokens: N columns of its name."""


QUANTITIES = (
    Quantity("remask_ratio", "sigmoid", is_idle_at_last=True),
    Quantity("sampling_temperature"),
    Quantity("remask_temperature", is_idle_at_last=True),
    Quantity("guidance_scale"),
)
"""m, tau_1, tau_2, w: the columns of an action [B, 4] (Eq. 5). What a sampler takes by sample comes
after them, see `nat_env.samplers.protocol.Sampler`."""

COLUMNS = tuple(quantity.name for quantity in QUANTITIES)
"""Their names, and those of a schedule's table [T, 4]."""


def of_quantities(
    columns: Sequence[str], mean: Array, *stds: Array
) -> tuple[tuple[str, ...], Array, list[Array]]:
    """From means and standard deviations over samples of columns [T, C] those of quantities [T, Q].

    Of one of tokens: in place of the mean its standard deviation over the tokens, for what is the
    same for all of them has no effect; and the root mean square of the deviations over samples.

    Args:
        columns: names of the C columns, the same for those of all tokens.
        mean: over samples.
        stds: deviations of some kinds.

    Returns:
        The Q names, and as given.

    Example:
        >>> mean, std = np.array([[0.5, -3.0, 1.0]]), np.array([[0.1, 3.0, 4.0]])
        >>> names, mean, (std,) = of_quantities(("guidance_scale", "map", "map"), mean, std)
        >>> names, mean, std.round(3)
        (('guidance_scale', 'map'), array([[0.5, 2. ]]), array([[0.1  , 3.536]]))
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(columns):
        places.setdefault(name, []).append(place)
    means = [mean[:, at].std(axis=1) if len(at) > 1 else mean[:, at[0]] for at in places.values()]
    found = [
        np.stack([np.sqrt(np.square(std[:, at]).mean(axis=1)) for at in places.values()], axis=1)
        for std in stds
    ]
    return tuple(places), np.stack(means, axis=1), found
