"""What decides the four quantities: a policy sees features and timestep."""

from typing import Protocol

from torch import Tensor

from nat_env.decoding.certainty import confidence_features
from nat_env.decoding.quantities import COLUMNS
from nat_env.frozen.nat import Passes
from nat_env.samplers.protocol import Sampler
from nat_env.schedules import Schedule


class DecodingPolicy(Protocol):
    """Anything that maps the decoding state to the four quantities.

    One that is for a single T says so by an attribute `num_steps`; None or none: for any. One that
    has its own rule for what stays masked has it as an attribute `sampler`, see `nat_env.samplers`;
    None or none: the papers'. One that sees `confidence_features` in place of the NAT's features
    has an attribute `observation`, which is `confidences`; one that decides more than four numbers,
    for its sampler, has the names of all in an attribute `columns`, the same name for those of all
    tokens.
    """

    def __call__(self, features: Tensor, timestep: Tensor) -> Tensor:
        """Features [B, N, D] and timesteps [B] -> m, tau_1, tau_2, w [B, 4]."""
        ...


def columns_of(policy: DecodingPolicy) -> tuple[str, ...]:
    """Names of the columns that a policy gives."""
    return getattr(policy, "columns", COLUMNS)


def observed(policy: DecodingPolicy, passes: Passes, masked: Tensor) -> Tensor:
    """What a policy sees of passes on tokens of which some are masked, bool [B, N].

    Raises:
        ValueError: its `observation` is none that there is.
    """
    observation = getattr(policy, "observation", "features")
    if observation == "confidences":
        return confidence_features(passes.logits, masked)
    if observation != "features":
        raise ValueError(
            f"policy: got one of the observation {observation!r}, allowed are 'features', "
            "'confidences'"
        )
    return passes.features


class ScheduledPolicy:
    """A schedule as a policy: the same for all samples."""

    def __init__(self, schedule: Schedule) -> None:
        """Follow `schedule`."""
        self.schedule = schedule
        self._table = schedule.table
        """Where it was asked for last: it is sent to a device once."""

    @property
    def num_steps(self) -> int:
        """T."""
        return self.schedule.num_steps

    @property
    def sampler(self) -> Sampler | None:
        """The schedule's."""
        return self.schedule.sampler

    def __call__(self, features: Tensor, timestep: Tensor) -> Tensor:
        """The schedule's rows at timesteps [B]."""
        self._table = self._table.to(features.device)
        return self._table[timestep]
