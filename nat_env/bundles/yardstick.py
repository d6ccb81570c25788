"""By what a bundle's samples are measured: a judge, and what it says of real images."""

from dataclasses import dataclass

from nat_env.bundles.statistics import GaussianStatistics
from nat_env.models.classifier import Classifier


@dataclass(frozen=True, eq=False)
class Yardstick:
    """A judge and its reference statistics."""

    name: str
    """Of the judge: what stands beside every distance that it measured."""
    judge: Classifier
    statistics: GaussianStatistics
    """Of what the judge says of the training images."""

    def __post_init__(self) -> None:
        """Check that the two belong together.

        Raises:
            ValueError: statistics of another dimension, or of no known number of images.
        """
        size = self.judge.config.widths[-1]
        if self.statistics.mean.shape != (size,) or self.statistics.count is None:
            raise ValueError(
                f"statistics: got {self.statistics.mean.shape} of {self.statistics.count} images, "
                f"allowed is ({size},), what the judge gives, of a known number of images"
            )
