"""The policy's numbers in [-1, 1] and the physical quantities they stand for."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nat_env.schedules import Schedule

RAW_SCALE = 5.0
"""raw = 5 a: the box [-1, 1] covers ratios of 0.007 to 0.993 and temperatures of 0.007 to 5."""

_NODES, _WEIGHTS = (torch.from_numpy(a).float() for a in np.polynomial.hermite_e.hermegauss(9))
"""Gauss-Hermite quadrature: sum(weights * f(nodes)) / sum(weights) is E f(z), z ~ N(0, 1)."""

_SMALLEST = 1e-4
"""Residual values are kept this far from where the inverse of an activation is infinite."""


@dataclass(frozen=True)
class ActionMap:
    """[-1, 1]^4 <-> (m, tau_1, tau_2, w): sigmoid for m, softplus for the others, of 5 a.

    With a residual schedule, its values are added before the activations, so that a = 0 is the
    schedule itself (the authors' option for CC3M).

    Example:
        >>> from nat_env.schedules import heuristic_schedule
        >>> ActionMap(heuristic_schedule(4)).physical(torch.zeros(1, 4), torch.tensor([1]))
        tensor([[0.7071, 1.0000, 0.7500, 0.5000]])
    """

    residual: Schedule | None = None

    def physical(self, actions: Tensor, timestep: Tensor) -> Tensor:
        """Actions [B, 4] in [-1, 1] at timesteps [B] -> m, tau_1, tau_2, w [B, 4]."""
        # In float64: a = 0 gives back the schedule's m to the last bit, on which a token may hang.
        raw = RAW_SCALE * actions.double() + self._offset(timestep, actions)
        return torch.cat([raw[:, :1].sigmoid(), F.softplus(raw[:, 1:])], dim=1).to(actions.dtype)

    def mean_physical(self, actions: Tensor, std: float | Tensor, timestep: Tensor) -> Tensor:
        """Mean of `physical` over actions that are Gaussian around those given: [B, 4].

        It is not `physical` of the mean, as the activations are curved: softplus takes noise of
        deviation 1 in raw units around tau_1 = 0.3 to 0.4 on average.

        Args:
            actions: means [B, 4].
            std: of the Gaussian, a number or [B, 4], in units of the box, to which the actions
                are clipped.
            timestep: [B].

        Example:
            >>> ActionMap().mean_physical(torch.full((1, 4), -0.2), 0.2, torch.tensor([0]))
            tensor([[0.3033, 0.4069, 0.4069, 0.4069]])
        """
        nodes, weights = _NODES.to(actions.device), _WEIGHTS.to(actions.device)
        around = (actions + std * nodes[:, None, None]).clamp(-1, 1)  # [nodes, B, 4]
        physical = self.physical(around.flatten(0, 1), timestep.repeat(len(nodes)))
        weighted = physical.view(around.shape) * weights[:, None, None]
        return weighted.sum(dim=0) / weights.sum()

    def actions(self, physical: Tensor, timestep: Tensor) -> Tensor:
        """The inverse of `physical`, clipped to the box [-1, 1]."""
        raw = _inverse_activation(physical.double()) - self._offset(timestep, physical)
        return (raw / RAW_SCALE).clamp(-1, 1).to(physical.dtype)

    def _offset(self, timestep: Tensor, like: Tensor) -> Tensor:
        if self.residual is None:
            return torch.zeros((), device=like.device)
        table = self.residual.table.to(like.device).double()
        return _inverse_activation(table)[timestep.clamp_max(len(table) - 1)]


def _inverse_activation(physical: Tensor) -> Tensor:
    ratio = physical[:, :1].clamp(_SMALLEST, 1 - _SMALLEST).logit()
    others = physical[:, 1:].clamp_min(_SMALLEST)
    return torch.cat([ratio, others + torch.log(-torch.expm1(-others))], dim=1)
