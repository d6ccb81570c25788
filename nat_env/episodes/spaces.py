"""Gymnasium's Box of one number a bound, for observations of many numbers."""

from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from numpy.lib.stride_tricks import as_strided


class UniformBox(spaces.Box):
    """A Box whose bounds are the same everywhere, and kept once.

    A Box keeps four arrays of its shape: with the features of 64 images of 256 tokens and 768
    numbers each, 126 MB; this one keeps four numbers, also where Gymnasium makes a batch of it.

    Example:
        >>> space = UniformBox(-2.0, 2.0, (1000,))
        >>> batch_space(space, 5), space.low.strides
        (Box(-2.0, 2.0, (5, 1000), float32), (0,))
    """

    def __init__(
        self, low: float, high: float, shape: tuple[int, ...], dtype: Any = np.float32
    ) -> None:
        """Make the space of arrays of this shape and dtype between two numbers."""
        super().__init__(low, high, (1,), dtype)
        self._bounds = (self.low[0].item(), self.high[0].item())
        self._spread(shape)

    def _spread(self, shape: tuple[int, ...]) -> None:
        self._shape = tuple(shape)
        for name in ("low", "high", "bounded_below", "bounded_above"):
            one = getattr(self, name).flat[:1].copy()
            # Writeable, as a Box's are: torch warns of arrays that are not.
            setattr(self, name, as_strided(one, shape, (0,) * len(shape), writeable=True))

    def __getstate__(self) -> dict[str, Any]:
        """Without the arrays, which would be written in full."""
        arrays = ("low", "high", "bounded_below", "bounded_above")
        return {name: value for name, value in vars(self).items() if name not in arrays}

    def __setstate__(self, state: Any) -> None:
        """Make the arrays anew."""
        low, high = state["_bounds"]
        self.__init__(low, high, state["_shape"], state["dtype"])
        super().__setstate__(state)


@batch_space.register(UniformBox)
def _batch(space: UniformBox, n: int = 1) -> UniformBox:
    low, high = space._bounds
    batch = UniformBox(low, high, (n, *space._shape), space.dtype)
    batch._np_random = deepcopy(space.np_random)  # as Gymnasium's Box
    return batch
