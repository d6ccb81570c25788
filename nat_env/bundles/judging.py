"""The Frechet distance of images under a bundle's judge, and how many images one needs."""

from collections.abc import Iterable

from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.statistics import EmbeddingAccumulator, GaussianStatistics, frechet_distance
from nat_env.models.classifier import embeddings_of


def frechet_of(bundle: Bundle, images: Tensor | Iterable[Tensor]) -> float:
    """FD between images and the bundle's training images, under its judge.

    Always name the judge and the number of images beside this number: it is no FID, and it falls
    as the number grows. What generates the images calls `check_rank` before.

    Args:
        bundle: with a judge and its statistics.
        images: all of them [n, C, H, W] in [0, 1]; or batches [b, C, H, W], of each of which only
            the mean and covariance of their embeddings are kept.

    Raises:
        ValueError: a bundle without a judge, fewer than 2 images, or embeddings that are not
            finite.
    """
    yardstick, accumulator = bundle.require("yardstick"), EmbeddingAccumulator()
    for batch in [images] if isinstance(images, Tensor) else images:
        accumulator.update(embeddings_of(yardstick.judge, batch).cpu().numpy())
    return frechet_distance(accumulator.statistics(), yardstick.statistics)


def check_bundle_rank(bundle: Bundle, num_samples: int, argument: str = "num_samples") -> None:
    """`check_rank` for a bundle's own judge.

    Raises:
        ValueError: as it does, or a bundle without a judge.
    """
    yardstick = bundle.require("yardstick")
    check_rank(yardstick.name, yardstick.statistics, num_samples, argument)


def check_rank(
    judge_name: str, reference: GaussianStatistics, num_samples: int, argument: str = "num_samples"
) -> None:
    """Check that the covariances of so many samples and of the real images have full rank.

    Args:
        judge_name: of the judge, whose embeddings the distance is of.
        reference: statistics of the real images.
        num_samples: images that are to be compared with them.
        argument: what `num_samples` is called where it was given.

    Raises:
        ValueError: there are not more samples, or not more real images, than numbers in an
            embedding.
    """
    size, count = reference.mean.size, reference.count
    if count is not None and count <= size:
        raise ValueError(
            f"judge: {judge_name} gives embeddings of {size} numbers, allowed are fewer than the "
            f"bundle's {count} real images; take another judge"
        )
    check_samples(judge_name, size, num_samples, argument)


def check_samples(
    judge_name: str, size: int, num_samples: int, argument: str = "num_samples"
) -> None:
    """Check that the covariance of so many samples has full rank.

    Args:
        judge_name: of the judge.
        size: numbers in an embedding.
        num_samples: images that are to be compared by it.
        argument: what `num_samples` is called where it was given.

    Raises:
        ValueError: there are not more samples than numbers in an embedding.
    """
    if num_samples <= size:
        raise ValueError(
            f"{argument}: got {num_samples}, allowed is > {size}, the numbers in an embedding by "
            f"the judge {judge_name}; draw more samples, or take another judge"
        )
