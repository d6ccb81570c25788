"""A training's own evaluations: the policy on the same samples each time."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import check_bundle_rank, frechet_of
from nat_env.generation import generate_batches
from nat_env.models.conditions import balanced_conditions
from nat_env.policies import DecodingPolicy
from nat_env.schedules import COLUMNS
from nat_env.seeds import TRAINING_EVALUATION

SHEET = 10
"""Conditions shown, and samples shown of each, at most."""

Actions = dict[str, dict[str, list[float]]]
"""By quantity: `mean` and `std` over samples, one number a step."""


@dataclass(frozen=True, eq=False)
class Validation:
    """What `validate` found."""

    frechet_distance: float
    actions: Actions
    shown: Tensor
    """The first samples of the first `SHEET` conditions [at most SHEET * SHEET, C, H, W],
    conditions in turn."""


def validate(
    bundle: Bundle, policy: DecodingPolicy, num_steps: int, num_samples: int
) -> Validation:
    """FD of a policy under the bundle's judge, and what it does at each step.

    Only one batch of images is held at a time, and those to be shown.

    Args:
        bundle: the frozen models.
        policy: (features, timestep) -> m, tau_1, tau_2, w.
        num_steps: T.
        num_samples: N, more than an embedding by the judge has numbers.

    Raises:
        ValueError: fewer, or see `generate`.
    """
    check_bundle_rank(bundle, num_samples)
    chosen: list[list[Tensor]] = [[] for _ in range(num_steps)]
    batches = generate_batches(
        bundle,
        policy,
        balanced_conditions(num_samples, len(bundle.conditions)),
        num_steps,
        TRAINING_EVALUATION.seed_of(0),
        on_step=lambda record: chosen[record.timestep].append(record.actions),
    )
    shown: list[Tensor] = []

    def seen() -> Iterator[Tensor]:
        for images, labels in batches:
            free = SHEET * SHEET - sum(map(len, shown))
            shown.append(images[(labels < SHEET).nonzero()[:free, 0]])
            yield images

    distance = frechet_of(bundle, seen())
    table = torch.stack([torch.cat(parts) for parts in chosen])  # [T, N, 4]
    mean, std = table.mean(dim=1), table.std(dim=1)
    actions = {
        name: {"mean": mean[:, column].tolist(), "std": std[:, column].tolist()}
        for column, name in enumerate(COLUMNS)
    }
    return Validation(distance, actions, torch.cat(shown))
