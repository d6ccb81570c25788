"""What a search for a schedule minimises, and its cost in generated images."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import check_bundle_rank, frechet_of
from nat_env.commands.own_code import is_own, name_or_object
from nat_env.generation import generate_batches
from nat_env.policies import ScheduledPolicy
from nat_env.rewards.names import chosen_reward
from nat_env.rewards.protocol import remembers, scores_of
from nat_env.schedules import Schedule
from nat_env.seeds import SEARCH

OBJECTIVES = ("frechet", "judge")

Score = Callable[[Iterable[tuple[Tensor, Tensor]]], float]
"""Batches of images [b, C, H, W] in [0, 1] and their labels [b] -> a number, lower is better."""


class Objective:
    """F of AutoNAT's Eq. 6: a schedule's score on `num_samples` images, lower is better.

    With common random numbers every schedule is scored on the same seeds, so that differences of
    scores are those of the schedules; without, each call draws on.
    """

    def __init__(
        self,
        bundle: Bundle,
        score: str | Score = "frechet",
        num_samples: int = 256,
        seed: int = 0,
        common_random_numbers: bool = True,
        batch_size: int | None = None,
    ) -> None:
        """Score schedules on `bundle`.

        Args:
            bundle: the frozen models.
            score: `frechet`, the FD under the bundle's judge; `judge`, minus the mean
                log-likelihood of the labels under it; `module:name`, minus the mean of a reward of
                one's own, or a JSON object, that of a reward with options, see `named_reward`; or a
                function of batches of images and labels, which are decoded one by one while it goes
                through them.
            num_samples: images of a score, of all classes alike; at least 2, and for `frechet`
                more than an embedding by the judge has numbers.
            seed: of the search.
            common_random_numbers: see above.
            batch_size: images decoded at once; by default as `generate` has it.

        Raises:
            ValueError: another name, a module that is not there or fails, or a number out of its
                range.
        """
        if isinstance(score, str) and not (
            score in OBJECTIVES or is_own(score) or score.startswith("{")
        ):
            raise ValueError(
                f"objective: got {score!r}, allowed are {OBJECTIVES}, module:name, a JSON object "
                "and a function"
            )
        if num_samples < 2:
            raise ValueError(f"num_samples: got {num_samples}, allowed is >= 2")
        if score == "frechet":
            check_bundle_rank(bundle, num_samples)
        SEARCH.seed_of(seed)
        self.bundle = bundle
        self.num_samples = num_samples
        self.common_random_numbers = common_random_numbers
        self.batch_size = batch_size
        self.calls = 0
        self._offset = 0
        self._score = score if callable(score) else self._named(score)
        self._seed = seed
        self._conditions = bundle.conditions.balanced(num_samples)

    @property
    def images(self) -> int:
        """Generated so far: what methods are compared at equal budgets of."""
        return self.calls * self.num_samples

    def __call__(self, schedule: Schedule) -> float:
        """The score of `schedule`."""
        if not self.common_random_numbers:
            self._offset = self.images
        self.calls += 1
        batches = generate_batches(
            self.bundle,
            ScheduledPolicy(schedule),
            self._conditions,
            schedule.num_steps,
            SEARCH.seed_of(self._seed, self._offset),
            self.batch_size,
        )
        return self._score(batches)

    def next_random_numbers(self) -> None:
        """From here on draw others than before, in common or not."""
        self._offset = self.images

    def skip(self) -> None:
        """Count a call whose value is known from before, and pass over its random numbers."""
        self.calls += 1

    def _named(self, name: str) -> Score:
        if name == "frechet":
            return lambda batches: frechet_of(self.bundle, (images for images, _ in batches))
        reward = chosen_reward(name_or_object(name, "objective"), self.bundle)
        if remembers(reward):
            raise ValueError(
                f"objective: got {name!r}, allowed is a reward that remembers nothing: of one "
                "schedule it would say another number each time"
            )

        def score(batches: Iterable[tuple[Tensor, Tensor]]) -> float:
            scores = [scores_of(reward, *batch, "objective") for batch in batches]
            return -float(torch.cat(scores).mean())

        return score
