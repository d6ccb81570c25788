"""Rewards from a frozen network (AdaNAT 4.3, option B)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nat_env.frozen.precision import full_float32
from nat_env.models.classifier import Tower
from nat_env.rewards.protocol import checked_scores


class JudgeLogLikelihood:
    """log p(label | image) under a bundle's judge: the environment's reward of its own.

    Where conditions are prompts, among all those of the judge's table.
    """

    def __init__(self, judge: Tower) -> None:
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

    def tell_names(self, names: Sequence[str]) -> None:
        """See `nat_env.rewards.protocol.tell_names`.

        Raises:
            ValueError: there are prompts that the judge's table does not have.
        """
        known = self.judge.num_conditions
        if len(names) > known:
            raise ValueError(
                f"prompt: got {names[known]!r}, allowed with the reward 'judge', which tells the "
                f"bundle's own prompts apart, are those {known}"
            )
