"""Rewards from a frozen network (AdaNAT 4.3, option B)."""

import torch
from torch import Tensor

from nat_env.frozen.precision import full_float32
from nat_env.models.classifier import Classifier
from nat_env.rewards.protocol import checked_scores


class JudgeLogLikelihood:
    """log p(label | image) under a bundle's judge: the environment's reward of its own."""

    def __init__(self, judge: Classifier) -> None:
        """Score with `judge`."""
        self.judge = judge

    @torch.no_grad()
    def __call__(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Log-likelihoods [B], each <= 0, computed without TF32.

        Raises:
            ValueError: one that is not finite: the images are not, or the judge is damaged.
        """
        with full_float32():
            logits = self.judge(images)
        likelihoods = logits.log_softmax(dim=1).gather(1, conditions[:, None])[:, 0]
        return checked_scores(likelihoods, len(images), "judge")
