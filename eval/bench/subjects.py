"""What is decoded in a benchmark: a bundle, or a U-ViT of any size with random weights."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from agents.learners.network import AdaNATNetwork
from agents.learners.policy import LearnedPolicy
from nat_env.actions import ActionMap
from nat_env.bundles.bundle import Bundle, load_bundle, resolve_dtype
from nat_env.models.frozen import FrozenNAT
from nat_env.models.uvit import UViT, UViTConfig
from nat_env.schedules import heuristic_schedule

PAPER_SMALL = UViTConfig(
    codebook_size=1024, num_tokens=256, num_classes=1000, hidden_size=512, depth=13, num_heads=8
)
"""NAT-S of AdaNAT and AutoNAT on ImageNet at 256 pixels (45.6 M parameters)."""


def square_grid(num_tokens: int) -> tuple[int, int]:
    """Tokens along height and width, equally many.

    Raises:
        ValueError: a number of tokens that fills no square.
    """
    side = math.isqrt(max(num_tokens, 0))
    if side < 1 or side**2 != num_tokens:
        raise ValueError(f"num_tokens: got {num_tokens}, allowed are squares from 1")
    return side, side


class _NoTokenizer:
    def decode(self, ids: Tensor) -> Tensor:
        return ids


class RandomBundle:
    """As much of a `Bundle` as `generate` asks for: a NAT without training, ids for images."""

    def __init__(self, config: UViTConfig, dtype: str) -> None:
        """Make the transformer, the same one for the same sizes.

        Raises:
            ValueError: a number of tokens that fills no square.
        """
        self.grid = square_grid(config.num_tokens)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            uvit = UViT(config).to(resolve_dtype(dtype))
        self.name = f"U-ViT {config.hidden_size} x {config.depth}, {config.num_tokens} tokens"
        self.nat = FrozenNAT(uvit, config.num_tokens, uvit.mask_id, config.num_classes)
        self.tokenizer = _NoTokenizer()
        self.num_classes = config.num_classes
        self.feature_size = config.hidden_size

    def check_conditions(self, conditions: Tensor) -> None:
        """Takes all: they are the benchmark's own."""


def subject(sizes: str | UViTConfig, dtype: str) -> Bundle | RandomBundle:
    """A bundle by its name or folder, or a random one by its sizes; each is made once.

    Raises:
        ValueError: see `load_bundle` and `RandomBundle`.
    """
    return load_bundle(sizes, dtype) if isinstance(sizes, str) else _random(sizes, dtype)


_random = lru_cache(maxsize=32)(RandomBundle)


def untrained_network(
    bundle: Bundle | RandomBundle, num_steps: int, hidden_size: int
) -> LearnedPolicy:
    """A policy network before training: does what the papers' schedule does, at its own price."""
    actor = AdaNATNetwork(bundle.feature_size, bundle.grid, 4, hidden_size)
    action_map = ActionMap(heuristic_schedule(num_steps))
    return LearnedPolicy(actor.eval(), action_map, 0.0, num_steps)
