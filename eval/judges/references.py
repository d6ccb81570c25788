"""What a judge compares samples with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray

from eval.judges.drawing import alike, draw, mostly_single
from eval.judges.embedding import embedding_size, real_embeddings
from eval.judges.judge import Judge, independent_judge
from eval.judges.names import JUDGE_RESOLUTION, JudgeName
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.statistics import GaussianStatistics, balanced_statistics
from nat_env.storage.files import sha256

NUM_REAL = 5000
"""Real images that another judge than the bundle's compares with, at most: some minutes on CPUs."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A judge, and the real images that it compares samples with."""

    judge: Judge
    statistics: GaussianStatistics
    description: str
    """Which real images, and how many."""
    images: NDArray[np.int64]
    """Numbers of the bundle's real images that its floors are drawn from; none: no floors."""
    embeddings: NDArray[np.float32] | None = None
    """[n, D] of real images, equally many of each class, for the metrics that compare samples with
    each of them; None leaves these out."""


def reference(
    bundle: Bundle,
    judge: Judge,
    cache: Path | None = None,
    progress: bool = False,
    metrics: bool = False,
    num_real: int | None = None,
) -> Reference:
    """What `judge` compares samples of `bundle` with: real images, classes alike as in samples.

    For the bundle's own judge, the statistics that the bundle carries. For another one, those of
    the bundle's real images, whose embeddings are computed once and then read from `cache`.

    Args:
        bundle: holds real images; without any there are no floors, and its own judge alone.
        judge: its own or another one.
        cache: a folder; None for none.
        progress: show a bar.
        metrics: hold the embeddings of the real images, for `Measurement.metrics`.
        num_real: how many of the bundle's real images, at most, classes alike; None for all.

    Raises:
        ValueError: the judge's embeddings are not finite, or have another dimension than the
            statistics or the cached embeddings, or these are damaged.
    """
    own = judge.name == bundle.judge_name
    if own and bundle.reals is None and not metrics:  # of other prompts than its images have
        images = labels = np.zeros(0, dtype=np.int64)
    else:
        labels = bundle.require("reals").conditions.numpy()
        images = np.arange(len(labels))
    if num_real is not None and num_real < len(images):
        images = np.sort(draw(labels, num_real, np.random.default_rng(0)))
    if own:
        statistics = bundle.require("yardstick").statistics
        _check_dimension(bundle, judge, statistics, f"the bundle {bundle.name}")
        description = f"all {statistics.count} training images"
        if not metrics:
            return Reference(judge, statistics, description, images)
    else:
        embedding_size(bundle, judge)
    embeddings = real_embeddings(bundle, judge, images, cache, progress)
    if not own:
        statistics = balanced_statistics(embeddings, labels[images])
        description = of_images(labels, len(images), "training images")
    kept = alike(labels[images], np.random.default_rng(0))
    return Reference(judge, statistics, description, images, embeddings[kept] if metrics else None)


def of_images(labels: NDArray[np.int64], count: int, what: str) -> str:
    """How many of the images with these labels, and that classes weigh alike where they have many.

    Example:
        >>> [of_images(np.array(labels), 2, "images") for labels in ([0, 0, 0, 1], [0, 1, 2, 2])]
        ['2 images, classes alike', '2 images']
    """
    return f"{count} {what}" + ("" if mostly_single(labels) else ", classes alike")


def independent_judges(
    bundle: Bundle,
    names: Sequence[JudgeName],
    num_samples: int,
    num_real: int = NUM_REAL,
    resolution: int | None = JUDGE_RESOLUTION,
) -> list[Judge]:
    """Judges by name, checked with the way out in the messages: most callers take the default.

    Args:
        bundle: whose samples they are to judge; there are none where it has no real images.
        names: each counts once.
        num_samples: N.
        num_real: images that they are to compare them with, at most.
        resolution: see `independent_judge`.

    Raises:
        ValueError: an unknown name, or too few samples, or real images, for a judge's embeddings.
        ImportError: a judge's packages are not installed.
    """
    if bundle.reals is None:
        return []
    return [
        _checked(bundle, name, num_samples, num_real, resolution) for name in dict.fromkeys(names)
    ]


def _checked(
    bundle: Bundle, name: JudgeName, num_samples: int, num_real: int, resolution: int | None
) -> Judge:
    way_out = f"or leave the judge {name} out (--judges without it; judges=())"
    try:
        judge = independent_judge(name, resolution, device=bundle.device)
    except ImportError as error:
        raise ImportError(f"{error}; {way_out}") from error
    size = embedding_size(bundle, judge)
    for argument, count in (
        ("num_samples", num_samples),
        ("judge_images", num_real),
        ("bundle's real images", len(bundle.require("reals").conditions)),
    ):
        if count <= size:
            raise ValueError(
                f"{argument}: got {count}, allowed is > {size}, the numbers in an embedding by the "
                f"judge {judge.name}; take more, {way_out}"
            )
    return judge


def reference_from_file(bundle: Bundle, judge: Judge, path: Path) -> Reference:
    """Published statistics of real images, such as those of an FID's standard protocol.

    They stand for other images than the bundle's, one by one unknown: there is a Frechet distance
    and no precision or recall. Nothing can tell whether the file was made with the same network
    and preprocessing; for `inception_v3`, these are the published weights, and images resized
    bilinearly without antialiasing.

    Args:
        bundle: its real images, if it has any, try out the judge, and give the floors.
        judge: whose embeddings the file is of.
        path: a .npz with `mu` [D] and `sigma` [D, D].

    Raises:
        ValueError: the file is missing or damaged, its arrays are not finite, not symmetric or of
            another dimension than the judge's embeddings, or these are not finite.
    """
    statistics = _load_statistics(path)
    _check_dimension(bundle, judge, statistics, str(path))
    images = np.arange(0 if bundle.reals is None else len(bundle.reals.conditions))
    return Reference(judge, statistics, f"{path.name}, SHA-256 {sha256(path)[:8]}", images)


def _check_dimension(
    bundle: Bundle, judge: Judge, statistics: GaussianStatistics, source: str
) -> None:
    size = embedding_size(bundle, judge)
    if statistics.mean.size != size:
        raise ValueError(
            f"statistics: those of {source} have D = {statistics.mean.size}, allowed is "
            f"D = {size}, that of the judge {judge.name}; take statistics of its embeddings"
        )


def _load_statistics(path: Path) -> GaussianStatistics:
    if not path.is_file():
        raise ValueError(f"statistics: {path} is no file, allowed is a .npz with mu and sigma")
    try:
        # Opened here: where numpy fails, it leaves a file open that it has opened.
        with path.open("rb") as file, np.load(file) as arrays:
            mean, covariance = arrays["mu"], arrays["sigma"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, ZlibError) as error:
        raise ValueError(
            f"statistics: {path} cannot be read ({error!r}), allowed is a .npz with mu and sigma"
        ) from error
    try:
        for name, array in (("mu", mean), ("sigma", covariance)):
            if array.dtype.kind != "f":  # integers have been cut off, or have wrapped around
                raise ValueError(f"{name} is {array.dtype}, allowed are floating-point numbers")
        return GaussianStatistics(mean, covariance, count=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"statistics: mu and sigma of {path}: {error}") from error
