"""The policy's numbers in [-1, 1] and the physical quantities they stand for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nat_env.decoding.quantities import COLUMNS, QUANTITIES, Quantity
from nat_env.decoding.transition import REMASK_TEMPERATURE
from nat_env.samplers.protocol import Sampler, default_quantities, own_quantities
from nat_env.schedules import Schedule

RAW_SCALE = 5.0
"""By default raw = 5 a: the box [-1, 1] covers ratios of 0.007 to 0.993 and temperatures of 0.007
to 5."""

_NODES, _WEIGHTS = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(48))
"""Gauss-Legendre quadrature: sum(weights * f(nodes)) is the integral of f over [-1, 1]."""

_WIDTH = 7.0
"""Deviations around a Gaussian's mean beyond which it is nothing."""

_SMALLEST = 1e-7
"""Physical values are kept this far from where the inverse of an activation is infinite."""

_BEYOND = 7.0
"""Raw values of which sigmoid and softplus are within 0.001 of their ends."""


@dataclass(frozen=True)
class ActionMap:
    """[-1, 1]^n <-> (m, tau_1, tau_2, w): sigmoid for m, softplus for the others, of raw values.

    With a residual schedule, its values are added before the activations, so that a = 0 is the
    schedule itself. The authors' code has that as an option, for CC3M, with a table of its own:
    `authors_schedule`.

    With smoothing it is a running average of the actions that stands for the quantities, as in
    AdaGen: `smoothed` before `physical`. AdaGen averages the sums of raw action and residual, and
    so takes a residual whose average is the schedule; as an average of sums is the sum of the
    averages, that is the average of the actions alone, and the schedule itself added to it.

    Example:
        >>> from nat_env.schedules import heuristic_schedule
        >>> ActionMap(heuristic_schedule(4)).physical(torch.zeros(1, 4), torch.tensor([1]))
        tensor([[0.7071, 1.0000, 0.7500, 0.5000]])
        >>> guided = ActionMap(heuristic_schedule(4), quantities=("guidance_scale",))
        >>> guided.physical(torch.ones(1, 1), torch.tensor([1]))
        tensor([[0.7071, 1.0000, 0.7500, 4.5776]])
    """

    residual: Schedule | None = None
    raw_scale: float = RAW_SCALE
    """raw = `raw_scale` a. Temperatures and guidance reach up to it: a guidance of 10, as text
    models have it, takes more than 5. Raw values have no bound in the paper."""
    smoothing: float = 0.0
    """alpha of the running average over the steps of an episode; 0: each step by itself."""
    quantities: Sequence[str] | None = None
    """What the n numbers of an action decide, by name: some of the four, where the others are the
    residual's, and those of its sampler, which stand behind the four (ReMDM's `eta`). By default
    the four, but for those that have no effect by the residual's sampler, and a map over the tokens
    where it takes one (`confidence_map`), which comes last."""
    num_tokens: int | None = None
    """N, where a number of each token is decided."""
    _kept: "dict[torch.device, _Tables]" = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Check scale, smoothing and quantities.

        Raises:
            ValueError: a scale that is not a finite number above 0, a smoothing outside [0, 1), or
                quantities that are not there, are repeated, or leave one to a residual where there
                is none.
        """
        if not isinstance(self.raw_scale, (int, float)) or not 0 < self.raw_scale < math.inf:
            raise ValueError(f"raw_scale: got {self.raw_scale!r}, allowed is a finite number > 0")
        if not isinstance(self.smoothing, (int, float)) or not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing: got {self.smoothing!r}, allowed is a number in [0, 1)")
        default = default_quantities(self.sampler)
        given = default if self.quantities is None else self.quantities
        own = own_quantities(self.sampler)
        allowed = tuple(dict.fromkeys([*default, *(q.name for q in own)]))
        if (
            not isinstance(given, list | tuple)
            or not given
            or any(name not in allowed or given.count(name) > 1 for name in given)
        ):
            raise ValueError(f"quantities: got {given!r}, allowed are some of {allowed}, each once")
        if self.residual is None and len(given) < len(COLUMNS):
            raise ValueError(f"quantities: got {given!r}, allowed without a residual are {COLUMNS}")
        of_tokens = [q.name for q in own if q.of_tokens]
        if any(name in of_tokens for name in given[:-1]):
            raise ValueError(f"quantities: got {given!r}, allowed is {of_tokens[0]!r} as the last")
        if given[-1] in of_tokens and (self.num_tokens is None or self.num_tokens < 1):
            raise ValueError(f"num_tokens: got {self.num_tokens}, allowed with a map is N >= 1")
        object.__setattr__(self, "quantities", tuple(given))

    @property
    def sampler(self) -> Sampler | None:
        """Of the residual schedule: the rule that the actions are for."""
        return None if self.residual is None else self.residual.sampler

    @property
    def decided(self) -> tuple[str, ...]:
        """`quantities`, those by default filled in."""
        assert isinstance(self.quantities, tuple)
        return self.quantities

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the n numbers of an action: that of a map as often as there are tokens."""
        found = {q.name: q for q in self.physical_quantities}
        return tuple(name for name in self.decided for _ in range(self._width(found[name])))

    @cached_property
    def physical_quantities(self) -> tuple[Quantity, ...]:
        """Columns of what `physical` gives: the four, and a sampler's that actions decide."""
        own = [q for q in own_quantities(self.sampler) if q.name in self.decided]
        return QUANTITIES + tuple(q for q in own for _ in range(self._width(q)))

    def _width(self, quantity: Quantity) -> int:
        return (self.num_tokens or 1) if quantity.of_tokens else 1

    @property
    def map_size(self) -> int:
        """How many of the last numbers of an action are one of each token: N, or none."""
        return sum(quantity.of_tokens for quantity in self.physical_quantities)

    @property
    def idle_at_last(self) -> tuple[bool, ...]:
        """Which numbers of an action have no effect at the last step."""
        idle = {q.name: q.is_idle_at_last for q in self.physical_quantities}
        return tuple(idle[name] for name in self.names)

    @property
    def out_of_reach(self) -> list[str]:
        """What is decided and yet stays at 0, or a share at 1: "guidance_scale at step 2".

        The residual schedule has it there, and no correction within the box moves it by 0.001.
        """
        tables = self._tables(torch.device("cpu"))
        least = tables.raw + self.raw_scale < -_BEYOND
        most = (tables.raw - self.raw_scale > _BEYOND) & tables.shares
        found = (least | most) & ~tables.any_number  # [T, C]
        columns = self.physical_quantities
        found[-1, [q.is_idle_at_last for q in columns]] = False
        places = [(t, c) for t, c in found.nonzero().tolist() if columns[c].name in self.decided]
        return [f"{columns[c].name} at step {t + 1}" for t, c in places]

    def smoothed(self, actions: Tensor, timestep: Tensor, before: Tensor) -> Tensor:
        """The running average after a step: s_0 = a_0, s_t = alpha s_(t-1) + (1 - alpha) a_t.

        Args:
            actions: a_t [B, n], of this step alone.
            timestep: t [B]; at 0 what was before is forgotten.
            before: s_(t-1) [B, n], what this gave at the step before.

        Example:
            >>> first, then = torch.tensor([[0.4] * 4]), torch.tensor([[-0.6] * 4])
            >>> ActionMap(smoothing=0.8).smoothed(then, torch.tensor([1]), first)
            tensor([[0.2000, 0.2000, 0.2000, 0.2000]])
        """
        if not self.smoothing:
            return actions
        average = self.smoothing * before + (1 - self.smoothing) * actions
        return torch.where((timestep == 0)[:, None], actions, average)

    def physical(self, actions: Tensor, timestep: Tensor) -> Tensor:
        """Actions [B, n] in [-1, 1] at timesteps [B] -> m, tau_1, tau_2, w [B, 4].

        With smoothing the actions are those that `smoothed` gives. What a sampler takes by sample
        comes after w.
        """
        # In float64: a = 0 gives back the schedule's m to the last bit, on which a token may hang.
        offset = self._offset(timestep, actions)
        raw = self.raw_scale * self._placed(actions.double(), offset) + offset
        return self._decided(self._activation(raw), timestep).to(actions.dtype)

    def mean_physical(self, actions: Tensor, std: float | Tensor, timestep: Tensor) -> Tensor:
        """Mean of `physical` over actions that are Gaussian around those given.

        It is not `physical` of the mean, as the activations are curved: softplus takes noise of
        deviation 1 in raw units around tau_1 = 0.3 to 0.4 on average. What noise on the numbers of
        single tokens does to their order tau_2 then does, by a variance as large.

        Args:
            actions: means [B, n].
            std: of the Gaussian, a number or [B, n], in units of the box, to which the actions
                are clipped.
            timestep: [B].

        Example:
            >>> ActionMap().mean_physical(torch.full((1, 4), -0.2), 0.2, torch.tensor([0]))
            tensor([[0.3033, 0.4069, 0.4069, 0.4069]])
        """
        offset = self._offset(timestep, actions)
        mean = self._placed(actions.double(), offset)
        spread = torch.as_tensor(std, dtype=torch.float64, device=mean.device)
        std = self._placed(spread.expand_as(actions), offset).clamp_min(1e-9)
        tables = self._tables(mean.device)
        low, high = ((mean + side * _WIDTH * std).clamp(-1, 1) for side in (-1, 1))
        half = (high - low) / 2
        at = (low + high) / 2 + half * tables.nodes  # [nodes, B, 4] or more
        inside, lowest, highest = (
            self._activation(self.raw_scale * a + offset) for a in (at, low, high)
        )
        density = (-(((at - mean) / std) ** 2) / 2).exp() / (std * math.sqrt(2 * math.pi))
        below, above = (
            torch.special.ndtr((low - mean) / std),
            torch.special.ndtr((mean - high) / std),
        )
        share = tables.weights * density * half  # of the Gaussian, at each node
        total = (share * inside).sum(dim=0) + below * lowest + above * highest
        found = self._decided(total / (share.sum(dim=0) + below + above), timestep)
        if self.map_size:
            # Noise on each token is re-masking noise, as Gumbel's is, whose variance is pi^2 / 6.
            variance = (self.raw_scale * std[:, -self.map_size :]).square().mean(dim=1)
            gumbel = found[:, REMASK_TEMPERATURE].square() + 6 / math.pi**2 * variance
            found[:, REMASK_TEMPERATURE] = gumbel.sqrt()
        return found.to(actions.dtype)

    def actions(self, physical: Tensor, timestep: Tensor) -> Tensor:
        """The inverse of `physical`, clipped to the box [-1, 1]."""
        _check_columns("physical", physical, len(self.physical_quantities))
        tables = self._tables(physical.device)
        raw = tables.inverse(physical.double()) - self._offset(timestep, physical)
        return (raw[:, tables.decided] / self.raw_scale).clamp(-1, 1).to(physical.dtype)

    def _offset(self, timestep: Tensor, like: Tensor) -> Tensor:
        """What is added to raw values at timesteps [B]: [B, 4] or more."""
        offsets = self._tables(like.device).raw
        return offsets[timestep.clamp_max(len(offsets) - 1)]

    def _placed(self, actions: Tensor, like: Tensor) -> Tensor:
        """Numbers [B, n] in the columns of physical values, 0 in those that are not decided."""
        _check_columns("actions", actions, len(self.names))
        decided = self._tables(like.device).decided
        return torch.zeros_like(like).index_copy(1, decided, actions)

    def _decided(self, found: Tensor, timestep: Tensor) -> Tensor:
        """With the residual's own numbers in the columns that actions do not decide."""
        if len(self.names) == found.shape[1]:
            return found
        tables = self._tables(found.device)
        fixed = tables.residual[timestep.clamp_max(len(tables.residual) - 1)]
        return fixed.index_copy(1, tables.decided, found[:, tables.decided])

    def _tables(self, device: torch.device) -> "_Tables":
        """Sent to a device once."""
        if device not in self._kept:
            found = _Tables.of(self)
            self._kept[device] = _Tables(*(part.to(device) for part in found))
        return self._kept[device]

    def _activation(self, raw: Tensor) -> Tensor:
        """Raw values [..., C] -> physical ones."""
        tables = self._tables(raw.device)
        positive = raw.where(tables.any_number, F.softplus(raw))
        return torch.where(tables.shares, raw.sigmoid(), positive)


class _Tables(NamedTuple):
    """What the C columns of physical values are made with."""

    raw: Tensor
    """The residual schedule before the activations [T, C]; without one zeros [1, C]."""
    residual: Tensor
    """As it is."""
    decided: Tensor
    """Columns of the n numbers of an action [n]."""
    shares: Tensor
    """Which columns are of a sigmoid [C] bool."""
    any_number: Tensor
    """Which have no activation [C] bool."""
    nodes: Tensor = _NODES[:, None, None]
    """Of the quadrature [nodes, 1, 1]."""
    weights: Tensor = _WEIGHTS[:, None, None]

    @classmethod
    def of(cls, action_map: ActionMap) -> "_Tables":
        """On the host."""
        columns, residual = action_map.physical_quantities, action_map.residual
        shares, any_number = (
            torch.tensor([quantity.activation == kind for quantity in columns])
            for kind in ("sigmoid", "identity")
        )
        decided = torch.tensor(
            [at for name in action_map.decided for at, q in enumerate(columns) if q.name == name]
        )
        zeros = torch.zeros(1, len(columns), dtype=torch.float64)
        found = cls(zeros, zeros, decided, shares, any_number)
        if residual is None:
            return found
        own = [getattr(residual.sampler, quantity.name) for quantity in columns[4:]]
        table = residual.table.to("cpu", torch.float64)
        further = torch.tensor(own, dtype=torch.float64).expand(len(table), -1)
        table = torch.cat([table, further], dim=1)
        return found._replace(raw=found.inverse(table), residual=table)

    def inverse(self, physical: Tensor) -> Tensor:
        """Physical values [..., C] -> raw ones, where an activation has no infinite one."""
        above = physical.clamp_min(_SMALLEST)
        positive = physical.where(self.any_number, above + torch.log(-torch.expm1(-above)))
        shares = physical.clamp(_SMALLEST, 1 - _SMALLEST).logit()
        return torch.where(self.shares, shares, positive)


def _check_columns(argument: str, numbers: Tensor, columns: int) -> None:
    if numbers.ndim != 2 or numbers.shape[1] != columns:
        raise ValueError(f"{argument}: got {tuple(numbers.shape)}, allowed is [B, {columns}]")
