"""The Frechet distance as a reward (AdaNAT 4.3, option A)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.statistics import GaussianStatistics, frechet_distance
from nat_env.frozen.precision import full_float32
from nat_env.models.classifier import embeddings_of


class FrechetReward:
    """How much a batch lowers the Frechet distance of the latest images to reference statistics.

    It has a `Reward`'s signature and breaks its contract, for the distance belongs to a set: every
    image of a batch gets the same number, which depends on the batch and on the images before it.
    No image learns what it did itself. Normalised within a batch, such a reward is no signal at
    all, and AdaNAT's adaptive policy diverged with it (appendix B); it serves a policy that all
    samples share.

    A batch of a rollout is too small for a distance of its own. Embeddings of the last `capacity`
    images are kept, and the reward is the slope of the distance F from them towards the batch,

        (F(kept) - F(kept and batch)) * (n + B) / B,    n = `capacity`,

    which is 0 until so many are kept: the distance of few images is biased upwards, and falls while
    their number grows, whatever the policy does.

    A distance that was a reward is no evidence any more: judge such a policy by another network.

    Example:
        >>> reference = GaussianStatistics.from_embeddings([[0.0], [2.0]])
        >>> reward = FrechetReward(lambda images: images.mean(dim=(2, 3)), reference, capacity=2)
        >>> labels = torch.zeros(2).long()
        >>> reward(torch.tensor([3.0, 5.0])[:, None, None, None], labels)  # F is 9 from here on
        tensor([0., 0.])
        >>> reward(torch.tensor([0.0, 2.0])[:, None, None, None], labels)  # F of all four: 2.70
        tensor([12.6090, 12.6090])
    """

    def __init__(
        self,
        embeddings: Callable[[Tensor], Tensor],
        statistics: GaussianStatistics,
        capacity: int = 1024,
    ) -> None:
        """Start with an empty buffer.

        Args:
            embeddings: images [B, C, H, W] in [0, 1] -> embeddings [B, D].
            statistics: of real images' embeddings, with the same D.
            capacity: images whose embeddings are kept, the latest, more than D; the more, the
                further it lags behind the policy.

        Raises:
            ValueError: too small a capacity: the covariance of so few has not its full rank.
        """
        size = statistics.mean.size
        if capacity <= size:
            raise ValueError(
                f"capacity: got {capacity}, allowed is > {size}, the numbers in an embedding"
            )
        self.embeddings = embeddings
        self.statistics = statistics
        self.capacity = capacity
        self._buffer = torch.zeros((0, size), dtype=torch.float64)

    @classmethod
    def of_bundle(cls, bundle: Bundle, capacity: int = 1024) -> "FrechetReward":
        """With the judge of `bundle` and its statistics of the training images."""
        yardstick = bundle.require("yardstick")
        return cls(partial(embeddings_of, yardstick.judge), yardstick.statistics, capacity)

    @torch.no_grad()
    def __call__(self, images: Tensor, conditions: Tensor) -> Tensor:
        """The same number for each of the images, [B] float32; the batch enters the buffer.

        Embeddings are computed without TF32.

        Raises:
            ValueError: embeddings of another shape than [B, D], or not finite.
        """
        with full_float32():
            embeddings = self.embeddings(images.clone()).cpu().double()
        allowed = (len(images), self._buffer.shape[1])
        if embeddings.shape != allowed:
            raise ValueError(
                f"embeddings: gave shape {tuple(embeddings.shape)}, allowed is [B, D] = {allowed}"
            )
        if not embeddings.isfinite().all():
            raise ValueError(
                "embeddings: gave values that are not finite; mend the images or the network"
            )
        both = torch.cat([self._buffer, embeddings])
        slope = 0.0
        if len(self._buffer) == self.capacity:
            gain = self._distance(self._buffer) - self._distance(both)
            slope = gain * len(both) / len(images)
        self._buffer = both[-self.capacity :].clone()
        return torch.full((len(images),), slope, dtype=torch.float32)

    def _distance(self, embeddings: Tensor) -> float:
        return frechet_distance(
            GaussianStatistics.from_embeddings(embeddings.numpy()), self.statistics
        )

    def state_dict(self) -> dict[str, Any]:
        """The buffer, oldest first."""
        return {"embeddings": self._buffer}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`; of a larger buffer, the latest `capacity`.

        Raises:
            ValueError: embeddings of another size.
        """
        name = "embeddings" if "embeddings" in state else "features"  # as older versions have it
        embeddings = state[name].double()
        if embeddings.ndim != 2 or embeddings.shape[1] != self._buffer.shape[1]:
            raise ValueError(
                f"embeddings: got shape {tuple(embeddings.shape)}, "
                f"allowed is [n, {self._buffer.shape[1]}]"
            )
        self._buffer = embeddings[-self.capacity :].clone()
