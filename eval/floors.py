"""What real images, and the tokenizer's reconstructions of them, reach: the bounds of a policy."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eval.embedding import real_features, reconstructed_features
from eval.judges import bundle_judge
from eval.metrics import sample_metrics
from eval.references import Reference
from eval.score import ScoreAccumulator
from nat_env.bundle import Bundle
from nat_env.statistics import GaussianStatistics, frechet_distance

Features = NDArray[np.float32]

FLOORS = {
    "real": "(real images)",
    "real halves": "(real images, two halves)",
    "reconstruction": "(tokenizer's reconstructions)",
}
"""The floors, and what tables call them."""


def floors(
    bundle: Bundle,
    judges: Sequence[Reference],
    progress: bool = False,
    cache: Path | None = None,
) -> list[dict[str, Any]]:
    """Distances that no policy can be expected to get below, and metrics that it cannot exceed.

    `reconstruction`: the bundle's real images after the tokenizer, against the judge's reference.
    They are among the images of the reference, so that samples, which are not, have it harder.
    `real halves`: one half of the bundle's real images, chosen at random, against the other. Being
    fewer than the images of an evaluation, they have it harder: a Frechet distance falls as the
    number of images grows, and counts for little where a half is not larger than D.
    `real`: images that no part was trained on, for the bundle's own judge, measured when the
    bundle was made.

    Args:
        bundle: holds real images.
        judges: with their references; those with features also give the metrics of
            `eval.metrics`, and those with a classifier the score of `eval.score`.
        progress: show bars.
        cache: a folder that keeps the features; None for none.

    Returns:
        One dict for each floor: bundle, bundle_fingerprint, judge, floor, num_samples, reference,
        frechet_distance, metrics, score. `num_samples` is None where the bundle does not say.
    """
    about = {"bundle": bundle.name, "bundle_fingerprint": bundle.fingerprint}
    rows: list[dict[str, Any]] = []
    for judged in judges:
        found = [
            _reconstruction(bundle, judged, progress, cache),
            _real_halves(bundle, judged, progress, cache),
        ]
        if judged.judge.name == bundle_judge(bundle).name and "real_floor" in bundle.quality:
            found.append(_quoted(bundle))
        rows += [about | {"judge": judged.judge.name} | floor for floor in found]
    return rows


def _reconstruction(
    bundle: Bundle, judged: Reference, progress: bool, cache: Path | None
) -> dict[str, Any]:
    features = reconstructed_features(bundle, judged.judge, cache, progress)
    statistics = GaussianStatistics.from_features(features)
    return {
        "floor": "reconstruction",
        "num_samples": len(features),
        "reference": judged.description,
        "frechet_distance": frechet_distance(statistics, judged.statistics),
    } | _measured(bundle, judged, judged.features, features)


def _real_halves(
    bundle: Bundle, judged: Reference, progress: bool, cache: Path | None
) -> dict[str, Any]:
    features = judged.features
    if features is None:
        features = real_features(bundle, judged.judge, cache, progress)
    order = np.random.default_rng(0).permutation(len(features))
    size = len(features) // 2
    one, other = features[order[:size]], features[order[size : 2 * size]]
    statistics = [GaussianStatistics.from_features(half) for half in (one, other)]
    return {
        "floor": "real halves",
        "num_samples": size,
        "reference": f"{size} other training images",
        "frechet_distance": frechet_distance(*statistics),
    } | _measured(bundle, judged, other, one)


def _quoted(bundle: Bundle) -> dict[str, Any]:
    return {
        "floor": "real",
        "num_samples": None,
        "reference": bundle.quality.get("floors_measured_on"),
        "frechet_distance": bundle.quality["real_floor"],
    }


def _measured(
    bundle: Bundle, judged: Reference, real: Features | None, features: Features
) -> dict[str, float]:
    """What the reference and the judge allow beside the distance."""
    found: dict[str, float] = {}
    if judged.features is not None and real is not None:
        found |= asdict(sample_metrics(real, features))
    if judged.judge.classifier is not None:
        accumulator = ScoreAccumulator(len(features), min(10, len(features)))
        for batch in torch.from_numpy(features).split(1024):
            accumulator.update(judged.judge.probabilities(batch.to(bundle.device)).cpu().numpy())
        score = accumulator.score()
        found |= {"score": score.mean, "score_std": score.std}
    return found
