"""The loops that are compared, and what they decode: models loaded, phases told apart."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.learners.network import AdaNATNetwork
from agents.learners.trained import LearnedPolicy
from agents.sharing.names import named_policy
from eval.bench import peer
from eval.bench.measuring.phases import Phases
from nat_env.actions import ActionMap
from nat_env.bundles.loading import check_device, load_bundle, resolve_dtype
from nat_env.frozen.conditions import balanced_conditions
from nat_env.frozen.nat import FrozenNAT
from nat_env.frozen.protocol import NATOutput
from nat_env.frozen.weights import seeded_weights
from nat_env.models.maskgit_vqgan import MaskGITVQGAN, MaskGITVQGANConfig
from nat_env.models.uvit import UVIT_SIZES, UViT, UViTConfig
from nat_env.policies import DecodingPolicy
from nat_env.schedules import heuristic_schedule

# Codes, grid, classes, width, depth, heads.
UVITS = {
    **{name: UVIT_SIZES[name] for name in ("S", "B", "L")},
    "small": UViTConfig(256, (7, 7), 10, 128, 7, 4),
    "tiny": UViTConfig(16, (4, 4), 10, 32, 3, 2),
}
"""U-ViTs with random weights: the published sizes for ImageNet at 256 pixels, of which S has 45.6 M
parameters, one near to what the fashion bundle has, and one to try things with."""

PHASES = ("nat", "sampling", "policy", "tokenizer", "rest")

# By its full name: `nat_env.generation` is the function that the package exports.
_generation: Any = import_module("nat_env.generation")


@dataclass(frozen=True)
class Contestant:
    """A loop, and what it decodes."""

    nat: str | UViTConfig
    """Of a bundle by its name or folder, or of these sizes with random weights."""
    num_steps: int
    batch_size: int
    dtype: str = "float32"
    authors: bool = False
    """Whether the loop is the authors', and not this library's."""
    policy: str = "untrained"
    """See `DecodeOptions`."""
    hidden_size: int = 512
    """Of the untrained policy network: the paper's, where it is not nat-train's."""
    tokenizer: bool = False
    """Of random weights: whether there is one, with random weights as well."""
    device: str = "cpu"
    decoder_dtype: str = "float32"
    compiled: bool = False

    @property
    def autocast(self) -> bool:
        """Whether passes are in float16 by autocast of float32 weights, as in the authors' code."""
        return self.authors and torch.device(self.device).type != "cpu"

    @property
    def loop(self) -> str:
        """To print."""
        kind = "float16 autocast" if self.autocast else self.dtype
        kind += ", compiled" if self.compiled else ""
        return f"{'authors' if self.authors else 'nat_env'}, {kind}"


def prepared(contestant: Contestant) -> Callable[[Phases], None]:
    """Load what `contestant` needs.

    Returns:
        Decodes one batch, and tells its `PHASES` but the rest.

    Raises:
        ValueError: an unknown bundle or policy.
    """
    nat, decode, policy, num_classes = _models(contestant)
    conditions = balanced_conditions(contestant.batch_size, num_classes)
    there = conditions.to(nat.device)
    num_steps, seeds = contestant.num_steps, range(contestant.batch_size)

    def ours(phases: Phases) -> None:
        nat.forget_first_passes()
        generators = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        with phases.watching(
            ("nat", nat, "_network"),  # compiled, or not
            ("sampling", _generation, "decode_step"),
            ("sampling", _generation, "draw_uniforms"),
        ):
            following = phases.of("policy", policy)
            ids = _generation.generate_tokens(nat, following, conditions, num_steps, generators)
        phases.of("tokenizer", decode)(ids)

    def transformer(ids: Tensor, labels: Tensor) -> NATOutput:
        with _passes(contestant):
            output = nat.transformer(ids, labels)
        return NATOutput(output.logits.float(), output.features.float())

    def authors(phases: Phases) -> None:
        with _as_torch_has_it(), phases.watching(("sampling", peer, "authors_step")):
            peer.authors_generate(
                phases.of("nat", transformer),
                phases.of("policy", policy),
                phases.of("tokenizer", decode),
                there,
                num_steps,
                nat.num_tokens,
                nat.mask_id,
                nat.null_condition,
            )

    return authors if contestant.authors else ours


def prepared_batch(contestant: Contestant) -> Callable[[], None]:
    """A batch to decode, with its models loaded."""
    return partial(prepared(contestant), Phases())


@lru_cache(maxsize=4)
def random_nat(
    config: UViTConfig, dtype: str, device: str = "cpu", compiled: bool = False
) -> FrozenNAT:
    """Without training; the same one for the same sizes, made once for all that ask."""
    with seeded_weights(0):
        uvit = UViT(config)
    where = torch.device(check_device(device))
    numbers = resolve_dtype(dtype, device)
    return FrozenNAT(uvit, config.num_classes, where, numbers, compiled=compiled)


@lru_cache(maxsize=2)
def random_tokenizer(
    config: UViTConfig, device: str = "cpu", decoder_dtype: str = "float32"
) -> MaskGITVQGAN:
    """MaskGIT's VQGAN without training, the published one for the published grid and codes."""
    height, width = config.grid
    sizes = MaskGITVQGANConfig((16 * height, 16 * width), codebook_size=config.codebook_size)
    with seeded_weights(0):
        tokenizer = MaskGITVQGAN(sizes).eval().requires_grad_(False).to(device)
    tokenizer.decoder_dtype = getattr(torch, decoder_dtype)
    return tokenizer


def untrained_network(nat: FrozenNAT, num_steps: int, hidden_size: int) -> LearnedPolicy:
    """A policy network before training: does what the papers' schedule does, at its own price."""
    actor = AdaNATNetwork(nat.feature_size, nat.feature_grid, 4, hidden_size).to(nat.device)
    return LearnedPolicy(actor.eval(), ActionMap(heuristic_schedule(num_steps)), 0.0, num_steps)


@contextmanager
def _as_torch_has_it() -> Iterator[None]:
    """TF32 in convolutions alone, which is torch's own choice and so the authors'."""
    convolutions = torch.backends.cudnn.allow_tf32
    products = torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)


def _passes(contestant: Contestant) -> AbstractContextManager[object]:
    if not contestant.autocast:
        return nullcontext()
    return torch.autocast(torch.device(contestant.device).type, torch.float16)


def _models(contestant: Contestant) -> tuple[FrozenNAT, Callable[..., Any], DecodingPolicy, int]:
    """The NAT, what decodes its tokens, the policy, and the number of classes."""
    num_steps, config, device = contestant.num_steps, contestant.nat, contestant.device
    if isinstance(config, UViTConfig):
        nat = random_nat(config, contestant.dtype, device, contestant.compiled)
        num_classes = config.num_classes
        decode = torch.clone
        if contestant.tokenizer:
            decode = random_tokenizer(config, device, contestant.decoder_dtype).decode
    else:
        numbers = contestant.dtype, device, contestant.decoder_dtype, contestant.compiled
        bundle = load_bundle(config, *numbers)
        nat, decode, num_classes = bundle.nat, bundle.tokenizer.decode, len(bundle.conditions)
        if contestant.policy != "untrained":
            policy = named_policy(contestant.policy, bundle, num_steps)[1]
            return nat, decode, policy, num_classes
    policy = untrained_network(nat, num_steps, contestant.hidden_size)
    return nat, decode, policy, num_classes
