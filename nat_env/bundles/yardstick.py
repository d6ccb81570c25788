"""By what a bundle's samples are measured: a judge, and what it says of real images."""

from dataclasses import dataclass, replace
from typing import Self

from nat_env.bundles.statistics import GaussianStatistics
from nat_env.frozen.conditions import Conditions
from nat_env.models.classifier import Tower


@dataclass(frozen=True, eq=False)
class Yardstick:
    """A judge and its reference statistics."""

    name: str
    """Of the judge: what stands beside every distance that it measured."""
    judge: Tower
    statistics: GaussianStatistics
    """Of what the judge says of the training images."""

    def with_conditions(self, conditions: Conditions) -> Self | None:
        """The same with its judge for another table; None where that takes none."""
        judge = self.judge.with_conditions(conditions)
        return judge and replace(self, judge=judge)

    def __post_init__(self) -> None:
        """Check that the two belong together.

        Raises:
            ValueError: statistics of another dimension, or of no known number of images.
        """
        size = self.judge.embedding_size
        if self.statistics.mean.shape != (size,) or self.statistics.count is None:
            raise ValueError(
                f"statistics: got {self.statistics.mean.shape} of {self.statistics.count} images, "
                f"allowed is ({size},), what the judge gives, of a known number of images"
            )
