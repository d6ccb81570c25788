"""What real images, and the tokenizer's reconstructions of them, reach: the bounds of a policy."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eval.judges.embedding import real_embeddings, reconstructed_embeddings
from eval.judges.judge import bundle_judge
from eval.judges.references import Reference
from eval.metrics.sample_metrics import sample_metrics
from eval.metrics.score import ScoreAccumulator
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.statistics import GaussianStatistics, frechet_distance

Embeddings = NDArray[np.float32]

FLOORS = {
    "real": "(real images)",
    "real others": "(real images, against others)",
    "reconstruction": "(tokenizer's reconstructions)",
}
"""The floors, and what tables call them."""


def floors(
    bundle: Bundle,
    judges: Sequence[Reference],
    num_samples: int,
    progress: bool = False,
    cache: Path | None = None,
) -> list[dict[str, Any]]:
    """Distances and metrics of real images, as many as an evaluation has samples.

    All of these depend on the number of samples, so that one floor does not suit every N.

    `reconstruction`: N of the bundle's real images after the tokenizer, against the judge's
    reference. They are among its images, so that samples, which are not, have it harder.
    `real others`: N of the bundle's real images, or half of them if they are too few for that,
    against all others.
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
        num_samples, reference, frechet_distance, metrics, score. `num_samples` is that of the
        floor, None where the bundle does not say.
    """
    about = {
        "bundle": bundle.name,
        "bundle_fingerprint": bundle.fingerprint,
        "evaluation_samples": num_samples,
    }
    rows: list[dict[str, Any]] = []
    for judged in judges:
        found = [
            _reconstruction(bundle, judged, num_samples, progress, cache),
            _real_others(bundle, judged, num_samples, progress, cache),
        ]
        if judged.judge.name == bundle_judge(bundle).name and "real_floor" in bundle.quality:
            found.append(_quoted(bundle))
        rows += [about | {"judge": judged.judge.name} | floor for floor in found]
    return rows


def _reconstruction(
    bundle: Bundle, judged: Reference, num_samples: int, progress: bool, cache: Path | None
) -> dict[str, Any]:
    embeddings = reconstructed_embeddings(bundle, judged.judge, cache, progress)
    embeddings = embeddings[_order(embeddings)[:num_samples]]
    statistics = GaussianStatistics.from_embeddings(embeddings)
    return {
        "floor": "reconstruction",
        "num_samples": len(embeddings),
        "reference": judged.description,
        "frechet_distance": frechet_distance(statistics, judged.statistics),
    } | _measured(bundle, judged, judged.embeddings, embeddings)


def _real_others(
    bundle: Bundle, judged: Reference, num_samples: int, progress: bool, cache: Path | None
) -> dict[str, Any]:
    embeddings = judged.embeddings
    if embeddings is None:
        embeddings = real_embeddings(bundle, judged.judge, cache, progress)
    order = _order(embeddings)
    size = min(num_samples, len(embeddings) // 2)
    one, other = embeddings[order[:size]], embeddings[order[size:]]
    statistics = [GaussianStatistics.from_embeddings(part) for part in (one, other)]
    return {
        "floor": "real others",
        "num_samples": size,
        "reference": f"{len(other)} other training images",
        "frechet_distance": frechet_distance(*statistics),
    } | _measured(bundle, judged, other, one)


def _order(embeddings: Embeddings) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(len(embeddings))


def _quoted(bundle: Bundle) -> dict[str, Any]:
    return {
        "floor": "real",
        "num_samples": None,
        "reference": bundle.quality.get("floors_measured_on"),
        "frechet_distance": bundle.quality["real_floor"],
    }


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
