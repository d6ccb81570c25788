"""A training's own evaluations: the policy on the same samples each time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nat_env.bundles.bundle import Bundle, balanced_conditions
from nat_env.bundles.judging import check_rank, judge_frechet_distance
from nat_env.generation import generate
from nat_env.policies import DecodingPolicy
from nat_env.schedules import COLUMNS
from nat_env.seeds import TRAINING_EVALUATION

Actions = dict[str, dict[str, list[float]]]
"""By quantity: `mean` and `std` over samples, one number a step."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found."""

    images: Tensor
    """[N, C, H, W], labels in turn."""
    frechet_distance: float
    actions: Actions


def evaluate(
    bundle: Bundle, policy: DecodingPolicy, num_steps: int, num_samples: int
) -> Evaluation:
    """FD of a policy under the bundle's judge, and what it does at each step.

    Args:
        bundle: the frozen models.
        policy: (features, timestep) -> m, tau_1, tau_2, w.
        num_steps: T.
        num_samples: N, more than the judge has features.

    Raises:
        ValueError: fewer, or see `generate`.
    """
    check_rank(bundle.judge_name, bundle.statistics, num_samples)
    chosen: list[list[Tensor]] = [[] for _ in range(num_steps)]
    images = generate(
        bundle,
        policy,
        balanced_conditions(num_samples, bundle.num_classes),
        num_steps,
        TRAINING_EVALUATION.seed_of(0),
        on_step=lambda record: chosen[record.timestep].append(record.actions),
    )
    table = torch.stack([torch.cat(batches) for batches in chosen])  # [T, N, 4]
    mean, std = table.mean(dim=1), table.std(dim=1)
    actions = {
        name: {"mean": mean[:, column].tolist(), "std": std[:, column].tolist()}
        for column, name in enumerate(COLUMNS)
    }
    return Evaluation(images, judge_frechet_distance(bundle, images), actions)
