"""Seconds of a round on so many GPUs, from what its parts cost on the machine at hand."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from agents.learners.config import TrainConfig
from eval.bench.planning.sizes import Frozen, policy_of
from nat_env.models.uvit import UViTConfig

WORTH_IT = 0.1
"""Of a round, what communication may take."""


class Line(NamedTuple):
    """What something costs: so much each time, and so much for each of what it is about."""

    fixed: float
    each: float

    def at(self, count: float) -> float:
        """Of one time with so many.

        Example:
            >>> Line(1.0, 0.5).at(4)
            3.0
        """
        return self.fixed + self.each * count

    @classmethod
    def through(cls, first: tuple[float, float], second: tuple[float, float]) -> "Line":
        """By two measurements (count, cost), the smaller count first.

        Nothing costs less than nothing: where they say so, that is noise, and what is told is the
        cost of each in the larger one, or that there is none.

        Example:
            >>> Line.through((2, 5.0), (4, 7.0))
            Line(fixed=3.0, each=1.0)
            >>> Line.through((2, 1.0), (4, 8.0))
            Line(fixed=0.0, each=2.0)
        """
        (few, low), (many, high) = first, second
        each = max((high - low) / (many - few), 0.0)
        fixed = low - each * few
        return cls(fixed, each) if fixed >= 0 else cls(0.0, high / many)


@dataclass(frozen=True)
class Costs:
    """Seconds, measured with one model and taken for the others."""

    passes: Line
    """Of a call of the transformer, by multiply-adds."""
    tokenizer: Line
    """Of a call that decodes, by multiply-adds."""
    step: Line
    """Of a round's rollout outside of both, by steps of its trajectories."""
    gradient: Line
    """Of an epoch of the policy's update, by transitions."""
    fresh: Line
    """Of an update's fresh samples outside of both, by their steps."""
    discriminator: Line
    """Of an update of the discriminator, by its images, real and generated."""
    features: int
    """Numbers of a canvas' features: what steps and the policy cost is taken to grow with them."""
    pixels: int
    """Of an image: likewise what the discriminator costs."""
    heads: int
    """Numbers that the discriminator learns."""


@dataclass(frozen=True)
class Links:
    """What GPUs are joined by: assumptions, not measured."""

    gpus_per_machine: int = 8
    inside: float = 300e9
    """Bytes per second between the GPUs of a machine, in each direction."""
    between: float = 25e9
    """Of each GPU's share of the network between machines."""
    latency: float = 10e-6
    """Seconds of each message round the ring, however small."""

    def reduction(self, learned: int, gpus: int) -> float:
        """Seconds to average so many gradients over so many GPUs: in a ring, all at once.

        Example:
            >>> Links(8, 100.0, 10.0, 0.5).reduction(100, 4)
            9.0
        """
        if gpus == 1:
            return 0.0
        bandwidth = self.inside if gpus <= self.gpus_per_machine else self.between
        messages = 2 * (gpus - 1)
        return messages * (4 * learned / gpus / bandwidth + self.latency)


def round_seconds(
    costs: Costs,
    model: Frozen,
    config: TrainConfig,
    gpus: int = 1,
    links: Links = Links(),
    first: bool = False,
) -> dict[str, float]:
    """Seconds of a round with fresh samples, by phase.

    Each GPU has its part of the trajectories, fresh samples and minibatches; an optimizer's step
    averages the gradients once.

    Args:
        costs: of one GPU.
        model: the frozen models' sizes.
        config: of the training; its environments are those of each GPU.
        gpus: of the training, one policy.
        links: between them.
        first: whether it is the first round: later ones find the passes on the empty canvas kept.
    """
    count = math.ceil(config.trajectories_per_round / gpus)
    size = math.ceil(config.discriminator.batch_size / gpus)
    updates, steps = config.discriminator_updates, config.num_steps
    at_once = min(config.environments, count)
    row, image = model.row, model.image
    width, area = model.features / costs.features, model.pixels / costs.pixels

    def drawing(samples: int) -> tuple[float, float]:
        """Transformer and tokenizer for so many samples."""
        calls = math.ceil(samples / at_once)
        passes = calls * (steps - 1)
        rows = 2 * samples * (steps - 1)
        transformer = passes * costs.passes.fixed + rows * row * costs.passes.each
        tokenizer = calls * costs.tokenizer.fixed + samples * image * costs.tokenizer.each
        return transformer, tokenizer

    rolled, fresh = drawing(count), drawing(size)
    opened = _distinct(model.transformer, count + updates * size) if first else 0
    policy = policy_of(model.transformer, config.hidden_size)
    return {
        "transformer": rolled[0] + updates * fresh[0] + opened * row * costs.passes.each,
        "tokenizer": rolled[1] + updates * fresh[1],
        "rest of rollouts": width * costs.step.at(count * steps),
        "rest of fresh samples": updates * width * costs.fresh.at(size * steps),
        "policy update": config.epochs * width * costs.gradient.at(count * steps),
        "discriminator update": updates * area * costs.discriminator.at(2 * size),
        "communication": config.epochs * links.reduction(policy, gpus)
        + updates * links.reduction(costs.heads, gpus),
    }


def communication_share(phases: dict[str, float]) -> float:
    """Of a round."""
    return phases["communication"] / sum(phases.values())


def gpus_for_a_policy(shares: dict[int, float]) -> int:
    """The most GPUs, of those that shares of communication are given for, that are worth it.

    Example:
        >>> gpus_for_a_policy({1: 0.0, 8: 0.04, 64: 0.3})
        8
    """
    return max(gpus for gpus, share in shares.items() if share <= WORTH_IT)


def _distinct(transformer: UViTConfig, samples: int) -> float:
    """Conditions among so many, drawn of all classes alike; of prompts each is its own."""
    classes = transformer.num_classes
    return classes * (1 - (1 - 1 / classes) ** samples) + 1 if classes else samples + 1
