"""A training's own evaluations: the policy on the same samples each time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import check_bundle_rank
from nat_env.bundles.reals import TensorReals
from nat_env.bundles.statistics import EmbeddingAccumulator, frechet_distance
from nat_env.decoding.quantities import of_quantities
from nat_env.frozen.precision import full_float32
from nat_env.generation import generate_batches
from nat_env.metrics.neighbours import precision_recall
from nat_env.models.classifier import embeddings_of
from nat_env.parallel.processes import ALONE, Processes
from nat_env.policies import DecodingPolicy, columns_of
from nat_env.seeds import TRAINING_EVALUATION

SHEET = 10
"""Conditions shown, and samples shown of each, at most."""

THUMBNAIL = 128
"""Pixels, at most, of the longer side of an image in an evaluation's sheet."""

NEIGHBOUR = 3
"""Which nearest neighbour bounds a ball of `nat_env.metrics.neighbours.precision_recall`."""

Actions = dict[str, dict[str, list[float]]]
"""By quantity: `mean` and `std` over the samples that a step decodes, one number a step."""


@dataclass(frozen=True, eq=False)
class Validation:
    """What `validate` found."""

    scores: dict[str, float]
    """`frechet_distance`, `class_accuracy` (the share of samples that the judge takes for what they
    were asked to be) and, where the bundle has real images, `precision` and `recall` against as
    many of these: all by the bundle's judge."""
    actions: Actions
    shown: Tensor
    """The first `SHEET` samples of each of the first `SHEET` conditions [n, C, H, W], conditions in
    turn; where few have more than one, the first samples of as many conditions."""

    @property
    def frechet_distance(self) -> float:
        """Under the bundle's judge."""
        return self.scores["frechet_distance"]


def validate(
    bundle: Bundle, policy: DecodingPolicy, num_steps: int, num_samples: int, seed: int = 0
) -> Validation:
    """What the bundle's judge says of a policy's samples, and what the policy does at each step.

    Only one batch of images is held at a time, and those to be shown; of all, their embeddings.

    Args:
        bundle: the frozen models.
        policy: (features, timestep) -> m, tau_1, tau_2, w.
        num_steps: T.
        num_samples: N, more than an embedding by the judge has numbers.
        seed: of the training: of each its own samples.

    Raises:
        ValueError: fewer samples, more than a training has seeds for, or see `generate`.
    """
    return _judged(bundle, [_sampled(bundle, policy, num_steps, num_samples, seed, ALONE)])


def validate_together(
    bundle: Bundle,
    policy: DecodingPolicy,
    num_steps: int,
    num_samples: int,
    seed: int,
    processes: Processes,
) -> Validation | None:
    """What `validate` finds, by processes that decode a share each: on the main one, else None.

    Raises:
        ValueError: see `validate`.
    """
    own = _sampled(bundle, policy, num_steps, num_samples, seed, processes)
    found = processes.gathered(own)
    return _judged(bundle, found) if found else None


def _judged(bundle: Bundle, found: Sequence["_Sampled"]) -> Validation:
    """What the shares are together, in their order."""
    num_samples = sum(len(part.embeddings) for part in found)
    accumulator = EmbeddingAccumulator()
    for part in found:
        accumulator.merge(part.moments)
    yardstick = bundle.require("yardstick")
    scores = {
        "frechet_distance": frechet_distance(accumulator.statistics(), yardstick.statistics),
        "class_accuracy": sum(part.right for part in found) / num_samples,
    }
    if bundle.reals is not None:
        reals = embeddings_of(yardstick.judge, _spread(bundle.reals, num_samples))
        embeddings = np.concatenate([part.embeddings for part in found])
        scores |= _overlap(reals.cpu().numpy(), embeddings)
    table = torch.cat([part.actions for part in found], dim=1)  # [T, N, C]
    counts = table.isfinite().all(dim=2).sum(dim=1)  # of images that a step decodes [T]
    table = table[: int((counts >= 2).sum())].numpy()
    moments = np.nanmean(table, axis=1), np.nanstd(table, axis=1, ddof=1)  # [T, C]
    names, mean, (std,) = of_quantities(found[0].columns, *moments)
    actions = {
        name: {"mean": mean[:, place].tolist(), "std": std[:, place].tolist()}
        for place, name in enumerate(names)
    }
    shown = torch.cat([part.shown for part in found])
    return Validation(scores, actions, shown[: _places(bundle)])


@dataclass(frozen=True, eq=False)
class _Sampled:
    """A share of the samples, n of them; all on the host."""

    moments: EmbeddingAccumulator
    embeddings: NDArray[np.float32]
    """[n, D]."""
    right: int
    """Samples that the judge takes for what they were asked to be."""
    actions: Tensor
    """[T, n, C]."""
    columns: tuple[str, ...]
    """Names of the C."""
    shown: Tensor
    """The first of the conditions that are shown [s, C, H, W]."""


def _sampled(
    bundle: Bundle,
    policy: DecodingPolicy,
    num_steps: int,
    num_samples: int,
    seed: int,
    processes: Processes,
) -> _Sampled:
    """Decode this process's share of the samples."""
    check_bundle_rank(bundle, num_samples)
    first = TRAINING_EVALUATION.seed_of(seed)
    TRAINING_EVALUATION.seed_of(seed, num_samples - 1)  # is a seed of this training's, too
    own = processes.slice_of(num_samples)
    of_all = bundle.conditions.balanced(num_samples)
    conditions = of_all[own]
    chosen: list[list[Tensor]] = [[] for _ in range(num_steps)]
    batches = generate_batches(
        bundle,
        policy,
        conditions,
        num_steps,
        first + own.start,
        on_step=lambda record: chosen[record.timestep].append(record.actions.cpu()),
    )
    judge, accumulator = bundle.require("yardstick").judge, EmbeddingAccumulator()
    # Prompts that have one sample each are shown ten in a row.
    count = SHEET if num_samples >= 2 * len(bundle.conditions) else SHEET**2
    on_sheet = of_all.unique()[:count]
    shown: list[Tensor] = []
    kept: list[NDArray[np.float32]] = []
    right = 0
    for images, labels in batches:
        free = _places(bundle) - sum(map(len, shown))
        of_these = torch.isin(labels, on_sheet.to(labels.device))
        shown.append(images[of_these.nonzero()[:free, 0]].cpu())
        embeddings = embeddings_of(judge, images)
        with full_float32():
            logits = judge.classifier(embeddings)
        right += int((logits.argmax(dim=1) == labels).sum())
        kept.append(embeddings.cpu().numpy())
        accumulator.update(kept[-1])
    actions = torch.stack([torch.cat(parts) for parts in chosen])  # [T, n, C]
    columns, shown_images = columns_of(policy), torch.cat(shown)
    return _Sampled(accumulator, np.concatenate(kept), right, actions, columns, shown_images)


def _places(bundle: Bundle) -> int:
    """Samples that are shown."""
    return SHEET * min(SHEET, len(bundle.conditions))


def _spread(reals: TensorReals, count: int) -> Tensor:
    """So many real images, or all where there are fewer: uint8, as even by condition as can be."""
    order = reals.conditions.argsort(stable=True)
    ordered = reals.conditions[order]
    place = torch.arange(len(order)) - torch.searchsorted(ordered, ordered)  # in its condition
    return reals.images[order[place.argsort(stable=True)[:count]]]


def _overlap(reals: NDArray[np.float32], samples: NDArray[np.float32]) -> dict[str, float]:
    """Precision and recall, where there are neighbours enough."""
    if min(len(reals), len(samples)) <= NEIGHBOUR:
        return {}
    precision, recall = precision_recall(reals, samples, NEIGHBOUR)
    return {"precision": precision, "recall": recall}


def at_most(images: Tensor, side: int) -> Tensor:
    """Images [B, C, H, W], made smaller where a side is longer."""
    longer = max(images.shape[-2:])
    if longer <= side:
        return images
    size = [max(1, pixels * side // longer) for pixels in images.shape[-2:]]
    return F.interpolate(images, size, mode="area")
