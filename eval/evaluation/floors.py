"""What real images, and the tokenizer's reconstructions of them, reach: the bounds of a policy."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eval.evaluation.fingerprint import prompts_of
from eval.judges.drawing import alike, draw, strata
from eval.judges.embedding import real_embeddings, reconstructed_embeddings
from eval.judges.judge import Judge
from eval.judges.references import Reference, of_images
from eval.metrics.alignment import aligned
from eval.metrics.sample_metrics import sample_metrics
from eval.metrics.score import ScoreAccumulator
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.statistics import balanced_statistics, frechet_distance
from nat_env.frozen.precision import full_float32

Embeddings = NDArray[np.float32]

FLOORS = {
    "real others": "(real images, against others)",
    "reconstruction": "(tokenizer's reconstructions)",
}
"""The floors, and what tables call them."""


DRAWS = 3
"""Of real images, that a floor is the mean of."""


def floors(
    bundle: Bundle,
    judges: Sequence[Reference],
    num_samples: int,
    progress: bool = False,
    cache: Path | None = None,
) -> list[dict[str, Any]]:
    """Distances and metrics of real images, as many as an evaluation has samples.

    All of these depend on the number of samples, so that one floor does not suit every N. Images
    are drawn as samples are, classes as even as can be; a class that has too few of them weighs as
    much as the others. A distance is the mean over several draws, metrics are of the first one.

    `reconstruction`: N of the judge's real images after the tokenizer, against its reference. They
    are among its images, so that samples, which are not, have it harder.
    `real others`: N of the judge's real images, or half of a class if there are too few for that,
    against all others; without regard to conditions where most have one image, as prompts do.
    `real`: images that no part was trained on, for the bundle's own judge, measured when the
    bundle was made.

    Args:
        bundle: holds real images.
        judges: with their references; those with embeddings also give the metrics of
            `eval.metrics`, and those with a classifier the score of `eval.metrics`.
        num_samples: N of the evaluation.
        progress: show bars.
        cache: a folder that keeps the embeddings; None for none.

    Returns:
        One dict for each floor: bundle, bundle_fingerprint, evaluation_samples (N), judge, floor,
        num_samples, reference, frechet_distance, draws, frechet_distance_std, metrics, score;
        of prompts a fingerprint of these, and where the bundle has an aligner alignment and
        alignment_samples. None of too few images to halve.
        `num_samples` is that of the floor, None where the bundle does not say; the standard
        deviation is that over draws, None of one draw.
    """
    about = {
        "bundle": bundle.name,
        "bundle_fingerprint": bundle.fingerprint,
        "evaluation_samples": num_samples,
    } | prompts_of(bundle.conditions)
    rows: list[dict[str, Any]] = []
    for judged in judges:
        if len(draw(strata(_labels(bundle, judged)), 2, np.random.default_rng(0), halves=True)) < 2:
            continue  # there is no distance of one image
        found = [
            _reconstruction(bundle, judged, num_samples, progress, cache),
            _real_others(bundle, judged, num_samples, progress, cache),
        ]
        if judged.judge.name == bundle.judge_name and "real_floor" in bundle.quality:
            found.append(_quoted(bundle))
        rows += [about | {"judge": judged.judge.name} | floor for floor in found]
    return rows


def _reconstruction(
    bundle: Bundle, judged: Reference, num_samples: int, progress: bool, cache: Path | None
) -> dict[str, Any]:
    embeddings = reconstructed_embeddings(bundle, judged.judge, judged.images, cache, progress)
    labels = _labels(bundle, judged)
    draws = _draws(strata(labels), num_samples)
    distances = [
        frechet_distance(balanced_statistics(embeddings[one], labels[one]), judged.statistics)
        for one in draws
    ]
    return (
        {
            "floor": "reconstruction",
            "num_samples": len(draws[0]),
            "reference": judged.description,
        }
        | _over_draws(distances)
        | _measured(bundle, judged, judged.embeddings, embeddings[_alike(labels, draws[0])])
        | _aligned(bundle, reconstructed_embeddings, num_samples, progress, cache)
    )


def _real_others(
    bundle: Bundle, judged: Reference, num_samples: int, progress: bool, cache: Path | None
) -> dict[str, Any]:
    embeddings = real_embeddings(bundle, judged.judge, judged.images, cache, progress)
    labels = _labels(bundle, judged)
    halved = strata(labels)
    draws = _draws(halved, num_samples, halves=True)
    # Without the classes of one image, which there is no other one of.
    rest = [
        np.setdiff1d(np.flatnonzero(np.isin(halved, halved[one])), one, assume_unique=True)
        for one in draws
    ]
    distances = [
        frechet_distance(*(balanced_statistics(embeddings[part], labels[part]) for part in parts))
        for parts in zip(draws, rest, strict=True)
    ]
    one, other = (embeddings[_alike(labels, part)] for part in (draws[0], rest[0]))
    return (
        {
            "floor": "real others",
            "num_samples": len(draws[0]),
            "reference": of_images(labels, len(rest[0]), "other training images"),
        }
        | _over_draws(distances)
        | _measured(bundle, judged, other, one)
        | _aligned(bundle, real_embeddings, num_samples, progress, cache)
    )


def _labels(bundle: Bundle, judged: Reference) -> NDArray[np.int64]:
    return bundle.require("reals").conditions.numpy()[judged.images]


def _draws(
    labels: NDArray[np.int64], num_samples: int, halves: bool = False
) -> list[NDArray[np.int64]]:
    """Several, or the only one where all images are taken."""
    draws = [draw(labels, num_samples, np.random.default_rng(i), halves) for i in range(DRAWS)]
    return draws[:1] if len(draws[0]) == len(labels) else draws


def _alike(labels: NDArray[np.int64], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of `chosen` that metrics take, which cannot weigh classes."""
    return chosen[alike(labels[chosen], np.random.default_rng(0))]


def _over_draws(distances: list[float]) -> dict[str, Any]:
    spread = float(np.std(distances, ddof=1)) if len(distances) > 1 else None
    return {
        "frechet_distance": float(np.mean(distances)),
        "frechet_distance_std": spread,
        "draws": len(distances),
    }


def _quoted(bundle: Bundle) -> dict[str, Any]:
    return {
        "floor": "real",
        "num_samples": None,
        "reference": bundle.quality.get("floors_measured_on"),
        "frechet_distance": bundle.quality["real_floor"],
    }


def _aligned(
    bundle: Bundle,
    embeddings_of: Callable[..., Embeddings],
    num_samples: int,
    progress: bool,
    cache: Path | None,
) -> dict[str, Any]:
    """The alignment score of real images, or of what the tokenizer makes of them.

    Of the same images whatever the judge, so that they are embedded once.
    """
    if bundle.aligner is None:
        return {}
    conditions = bundle.require("reals").conditions
    images = np.sort(draw(conditions.numpy(), num_samples, np.random.default_rng(0)))
    network = Judge(f"{bundle.name}-aligner", bundle.aligner.embeddings, is_fixed=True)
    embeddings = embeddings_of(bundle, network, images, cache, progress)
    right = 0
    for numbers in torch.arange(len(images)).split(1024):
        batch = torch.from_numpy(embeddings)[numbers].to(bundle.device)
        with torch.no_grad(), full_float32():
            scores = bundle.aligner.classifier(batch)
        right += int(aligned(scores, conditions[torch.from_numpy(images)[numbers]]).sum())
    return {"alignment": right / len(images), "alignment_samples": len(images)}


def _measured(
    bundle: Bundle, judged: Reference, real: Embeddings | None, embeddings: Embeddings
) -> dict[str, float]:
    """What the reference and the judge allow beside the distance."""
    found: dict[str, float] = {}
    if judged.embeddings is not None and real is not None:
        found |= asdict(sample_metrics(real, embeddings))
    if judged.judge.classifier is not None:
        accumulator = ScoreAccumulator(len(embeddings), min(10, len(embeddings)))
        for batch in torch.from_numpy(embeddings).split(1024):
            accumulator.update(judged.judge.probabilities(batch.to(bundle.device)).cpu().numpy())
        score = accumulator.score()
        found |= {"score": score.mean, "score_std": score.std}
    return found
