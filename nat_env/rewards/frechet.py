"""The Frechet distance as a reward (AdaNAT 4.3, option A)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nat_env.bundle import Bundle
from nat_env.models.classifier import features_of
from nat_env.statistics import GaussianStatistics, frechet_distance


class FrechetReward:
    """Minus the Frechet distance of the latest images to reference statistics.

    It has a `Reward`'s signature and breaks its contract, for the distance belongs to a set: every
    image of a batch gets the same number, which depends on the batch and on the images before it.
    No image learns what it did itself. Normalised within a batch, such a reward is no signal at
    all, and AdaNAT's adaptive policy diverged with it (appendix B); it serves a search for a policy
    that all samples share.

    Features of the last `capacity` images are kept, and the distance is that of these and the
    batch, so that small batches are usable; after a change of the policy the older images lag
    behind. The distance of n images is biased upwards, most of all while n is below the number of
    features: the reward rises while the buffer fills, whatever the policy does.

    A distance that was a reward is no evidence any more: judge such a policy by another network.

    Example:
        >>> reference = GaussianStatistics.from_features([[0.0], [2.0]])
        >>> reward = FrechetReward(lambda images: images.mean(dim=(2, 3)), reference)
        >>> reward(torch.tensor([3.0, 5.0])[:, None, None, None], torch.zeros(2).long())
        tensor([-9., -9.])
    """

    def __init__(
        self,
        features: Callable[[Tensor], Tensor],
        statistics: GaussianStatistics,
        capacity: int = 2048,
        minimum: int = 2,
    ) -> None:
        """Start with an empty buffer.

        Args:
            features: images [B, C, H, W] in [0, 1] -> features [B, D].
            statistics: of real images' features, with the same D.
            capacity: images whose features are kept, the latest.
            minimum: the reward is 0 until buffer and batch together hold so many images; a
                covariance needs 2.

        Raises:
            ValueError: a capacity below 1, or a minimum below 2 or never reached.
        """
        if capacity < 1:
            raise ValueError(f"capacity: got {capacity}, allowed is >= 1")
        if not 2 <= minimum <= capacity + 1:
            raise ValueError(f"minimum: got {minimum}, allowed is 2 .. capacity + 1")
        self.features = features
        self.statistics = statistics
        self.capacity = capacity
        self.minimum = minimum
        self._buffer = torch.zeros((0, statistics.mean.size), dtype=torch.float64)

    @classmethod
    def of_bundle(cls, bundle: Bundle, capacity: int = 2048, minimum: int = 2) -> "FrechetReward":
        """With the judge of `bundle` and its statistics of the training images."""
        return cls(partial(features_of, bundle.judge), bundle.statistics, capacity, minimum)

    @torch.no_grad()
    def __call__(self, images: Tensor, conditions: Tensor) -> Tensor:
        """The same number for each of the images, [B] float32; the batch enters the buffer.

        Raises:
            ValueError: features of another shape than [B, D], or not finite.
        """
        features = self.features(images).cpu().double()
        allowed = (len(images), self._buffer.shape[1])
        if features.shape != allowed:
            raise ValueError(
                f"features: gave shape {tuple(features.shape)}, allowed is [B, D] = {allowed}"
            )
        latest = torch.cat([self._buffer, features])
        distance = 0.0
        if len(latest) >= self.minimum:
            distance = frechet_distance(
                GaussianStatistics.from_features(latest.numpy()), self.statistics
            )
        self._buffer = latest[-self.capacity :].clone()
        return torch.full((len(images),), -distance, device=images.device)

    def state_dict(self) -> dict[str, Any]:
        """The buffer, oldest first."""
        return {"features": self._buffer}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`; of a larger buffer, the latest `capacity`.

        Raises:
            ValueError: features of another size.
        """
        features = state["features"].double()
        if features.ndim != 2 or features.shape[1] != self._buffer.shape[1]:
            raise ValueError(
                f"features: got shape {tuple(features.shape)}, "
                f"allowed is [n, {self._buffer.shape[1]}]"
            )
        self._buffer = features[-self.capacity :].clone()
