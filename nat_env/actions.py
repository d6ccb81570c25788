"""The policy's numbers in [-1, 1] and the physical quantities they stand for."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nat_env.schedules import Schedule

RAW_SCALE = 5.0
"""raw = 5 a: the box [-1, 1] covers ratios of 0.007 to 0.993 and temperatures of 0.007 to 5."""

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
        raw = RAW_SCALE * actions + self._offset(timestep, actions)
        return torch.cat([raw[:, :1].sigmoid(), F.softplus(raw[:, 1:])], dim=1)

    def actions(self, physical: Tensor, timestep: Tensor) -> Tensor:
        """The inverse of `physical`, clipped to the box [-1, 1]."""
        raw = _inverse_activation(physical) - self._offset(timestep, physical)
        return (raw / RAW_SCALE).clamp(-1, 1)

    def _offset(self, timestep: Tensor, like: Tensor) -> Tensor:
        if self.residual is None:
            return torch.zeros((), device=like.device)
        table = self.residual.table.to(like.device)
        return _inverse_activation(table)[timestep.clamp_max(len(table) - 1)]


def _inverse_activation(physical: Tensor) -> Tensor:
    ratio = physical[:, :1].clamp(_SMALLEST, 1 - _SMALLEST).logit()
    others = physical[:, 1:].clamp_min(_SMALLEST)
    return torch.cat([ratio, others + torch.log(-torch.expm1(-others))], dim=1)
