"""Multiply-adds, numbers and bytes of what a training has in memory, counted from its sizes."""

import math
from functools import cache
from typing import NamedTuple

import torch

from agents.learners.config import TrainConfig
from agents.learners.network import AdaNATNetwork
from eval.bench.measuring.timing import multiply_adds
from nat_env.frozen.nat import FIRST_PASSES_KEPT
from nat_env.models.maskgit_vqgan import MaskGITVQGAN, MaskGITVQGANConfig
from nat_env.models.uvit import UViT, UViTConfig

TOKENIZER_PARAMETERS = 54_500_000
TOKENIZER_ACTIVATIONS = 2 * 2**30
"""Bytes, of MaskGIT's VQGAN as it decodes as many pixels as it does at once on a CPU: the least."""
_LEARNED_COPIES = 5
"""Of a learned number: itself, its gradient, the gathered gradient, and two moments of Adam."""
_KEPT_OF_A_PLACE = 8
"""Numbers that an update keeps for its backward pass, for each number of the policy's width."""


class Frozen(NamedTuple):
    """The frozen models' sizes."""

    transformer: UViTConfig
    tokenizer: MaskGITVQGANConfig = MaskGITVQGANConfig()

    @property
    def row(self) -> int:
        """Multiply-adds of a pass on one canvas."""
        return multiply_adds_of_a_row(self.transformer)

    @property
    def image(self) -> int:
        """Multiply-adds of decoding one image."""
        return multiply_adds_of_an_image(self.tokenizer)

    @property
    def features(self) -> int:
        """Numbers of a canvas' features, M D."""
        return math.prod(self.transformer.feature_grid) * self.transformer.hidden_size

    @property
    def pixels(self) -> int:
        """Of an image."""
        return math.prod(self.tokenizer.image_size)


def multiply_adds_of_a_row(config: UViTConfig) -> int:
    """Of a pass of a U-ViT without patches on one canvas with its condition.

    Example:
        >>> multiply_adds_of_a_row(UViTConfig(6, (2, 2), 3, hidden_size=8, depth=3, num_heads=2))
        13808
    """
    size, tokens = config.hidden_size, config.num_tokens
    places = tokens + (config.context_length or 1)
    block = 12 * size**2 * places + 2 * places**2 * size  # linear layers, and attention
    skips = config.depth // 2 * 2 * size**2 * places
    head = (size**2 + size * config.codebook_size) * tokens
    prompt = config.context_length * config.context_size * size
    return config.depth * block + skips + head + prompt


@cache
def multiply_adds_of_an_image(config: MaskGITVQGANConfig) -> int:
    """Of decoding one image's tokens; nothing is allocated."""
    with torch.device("meta"), torch.no_grad():
        tokenizer = MaskGITVQGAN(config)
        ids = torch.zeros(1, math.prod(config.grid), dtype=torch.int64)
        counted = multiply_adds(lambda phases: phases.of("image", tokenizer.decode)(ids))
    return int(counted["image"])


@cache
def parameters_of(config: UViTConfig) -> int:
    """Of the transformer; nothing is allocated."""
    with torch.device("meta"):
        return sum(p.numel() for p in UViT(config).parameters())


@cache
def policy_of(config: UViTConfig, hidden_size: int) -> int:
    """Numbers of actor and critic of the paper's form on features of that model."""
    with torch.device("meta"):
        networks = [
            AdaNATNetwork(config.hidden_size, config.feature_grid, outputs, hidden_size)
            for outputs in (4, 1)
        ]
    return sum(p.numel() for network in networks for p in network.parameters())


def memory_of(config: UViTConfig, training: TrainConfig, gpus: int = 1) -> dict[str, int]:
    """Bytes on each of so many GPUs, by what they are for; features stay there in half precision.

    Transformer in two bytes a number, all else in four.
    """
    count = math.ceil(training.trajectories_per_round / gpus)
    at_once = min(training.environments, count)
    logits, features = config.num_tokens * config.codebook_size, math.prod(config.feature_grid)
    features *= config.hidden_size
    kept = min(config.num_classes or count, FIRST_PASSES_KEPT)
    learned = policy_of(config, training.hidden_size)
    minibatch = math.ceil(training.batch_size / gpus)
    places = math.prod(config.feature_grid) * training.hidden_size
    return {
        "models": 2 * parameters_of(config) + 4 * TOKENIZER_PARAMETERS,
        "learned": 4 * _LEARNED_COPIES * learned,
        "first passes": kept * (2 * logits + 4 * features),
        "passes of a step": at_once * (2 * 2 * logits + 4 * features),
        "features of a rollout": 2 * count * training.num_steps * features,
        "an update": 4 * minibatch * (features + _KEPT_OF_A_PLACE * places),
        "images being decoded": TOKENIZER_ACTIVATIONS,
    }
