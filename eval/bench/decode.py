"""Images per second of decoding, where the time goes, and the authors' loop beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark import Measurement

from agents.learners.network import AdaNATNetwork
from agents.learners.policy import LearnedPolicy
from agents.sharing.names import named_policy
from eval.bench import peer
from eval.bench.measure import Phases, by_turns, most_per_second, multiply_adds
from eval.bench.options import DecodeOptions
from eval.bench.report import Row, Section, target
from nat_env.actions import ActionMap
from nat_env.bundles.loading import load_bundle, resolve_dtype
from nat_env.frozen.conditions import balanced_conditions
from nat_env.frozen.nat import FrozenNAT
from nat_env.frozen.weights import seeded_weights
from nat_env.models.uvit import UVIT_SIZES, UViT, UViTConfig
from nat_env.policies import DecodingPolicy
from nat_env.schedules import heuristic_schedule

# Codes, grid, classes, width, depth, heads.
UVITS = {
    "papers": UVIT_SIZES["S"],
    "small": UViTConfig(256, (7, 7), 10, 128, 7, 4),
    "tiny": UViTConfig(16, (4, 4), 10, 32, 3, 2),
}
"""U-ViTs with random weights: NAT-S of AdaNAT and AutoNAT on ImageNet at 256 pixels (45.6 M
parameters), one near to what the fashion bundle has, and one to try things with."""

AUTHORS = "authors, float32"
PHASES = ("nat", "sampling", "policy", "tokenizer", "rest")
TIMES_THE_AUTHORS = {
    ("fashion", 4, "nat_env, bfloat16"): 5.0,
    ("fashion", 8, "nat_env, bfloat16"): 4.0,
    ("fashion", 4, "nat_env, float32"): 1.6,
    ("fashion", 8, "nat_env, float32"): 1.3,
    ("U-ViT 512 x 13", 8, "nat_env, bfloat16"): 3.0,
}
"""What is aimed at, by NAT, T and loop; a machine without fast bfloat16 has float32 alone."""

# By its full name: `nat_env.generation` is the function that the package exports.
_generation: Any = import_module("nat_env.generation")


@dataclass(frozen=True)
class Contestant:
    """A loop, and what it decodes."""

    nat: str | UViTConfig
    """Of a bundle by its name or folder, or of these sizes with random weights and no tokenizer."""
    num_steps: int
    batch_size: int
    dtype: str = "float32"
    authors: bool = False
    """Whether the loop is the authors', and not this library's."""
    policy: str = "untrained"
    """See `DecodeOptions`."""
    hidden_size: int = 512
    """Of the untrained policy network: the paper's, where it is not nat-train's."""

    @property
    def loop(self) -> str:
        """To print."""
        return f"{'authors' if self.authors else 'nat_env'}, {self.dtype}"


def contestants(options: DecodeOptions) -> list[list[Contestant]]:
    """What goes by turns: for each model, T and batch, this library's loops, then the authors'."""
    settings = [
        Contestant(bundle, num_steps, batch_size, policy=options.policy, hidden_size=128)
        for bundle in options.bundles
        for num_steps in options.num_steps
        for batch_size in options.batch_sizes
    ]
    if options.papers_size:
        numbers = options.large_num_steps, options.large_batch_size
        settings.append(Contestant(UVITS[options.large], *numbers))
    dtypes = dict.fromkeys(str(resolve_dtype(d)).removeprefix("torch.") for d in options.dtypes)
    return [
        [*(replace(setting, dtype=dtype) for dtype in dtypes), replace(setting, authors=True)]
        for setting in settings
    ]


def check(options: DecodeOptions) -> None:
    """Load what is to be measured.

    Raises:
        ValueError: an unknown bundle or policy, or one that is for another bundle or T.
    """
    for group in contestants(options):
        prepared(group[0])


def run(options: DecodeOptions, repeats: int) -> list[Section]:
    """Measure; see `check` for what is refused."""
    rows = [row for group in contestants(options) for row in compared(group, repeats)]
    note = (
        "The loops by turns. Authors: AdaNAT's loop as described, 2 T + 1 separate passes, same "
        "weights and policy, in float32. Ratio: of the medians of seconds a batch. Every batch "
        "makes its pass on the empty canvas anew, as if no label had been seen before. Sampling: "
        "the transition and its random numbers. Of ceiling: the multiply-adds per second of the "
        "NAT's passes, against those of the fastest product of two square matrices in that dtype, "
        "which is above what products of the NAT's shapes reach."
    )
    return [Section("Decoding", rows, note, targets(rows))]


def compared(group: Sequence[Contestant], repeats: int) -> list[Row]:
    """A row for each contestant; among them is the authors' loop, which sets the ratios."""
    loops = {contestant.loop: prepared(contestant) for contestant in group}
    for decode in loops.values():
        decode(Phases())  # makes what is made once
    phases = {name: Phases() for name in loops}
    works = {n: partial(phases[n].of("rest", decode), phases[n]) for n, decode in loops.items()}
    seconds = by_turns(works, repeats)
    return [_row(c, seconds, phases[c.loop], multiply_adds(loops[c.loop])) for c in group]


def _row(
    contestant: Contestant,
    seconds: Mapping[str, Measurement],
    phases: Phases,
    counts: Mapping[str, float],
) -> Row:
    nat, batch_size, own = contestant.nat, contestant.batch_size, seconds[contestant.loop]
    shares = phases.shares(*PHASES)
    speed = counts["nat"] / (own.median * shares["nat_share"])
    row: Row = {
        "nat": nat if isinstance(nat, str) else f"U-ViT {nat.hidden_size} x {nat.depth}",
        "T": contestant.num_steps,
        "batch": batch_size,
        "loop": contestant.loop,
        "seconds": own,
        "images_per_second": batch_size / own.median,
        "ratio": seconds[AUTHORS].median / own.median,
        "million_multiply_adds_per_image": sum(counts.values()) / batch_size / 1e6,
    }
    ceiling = most_per_second(resolve_dtype(contestant.dtype))
    return row | shares | {"of_ceiling_share": speed / ceiling}


def prepared(contestant: Contestant) -> Callable[[Phases], None]:
    """Load what `contestant` needs.

    Returns:
        Decodes one batch, and tells its `PHASES` but the rest.

    Raises:
        ValueError: an unknown bundle or policy.
    """
    nat, decode, policy, num_classes = _models(contestant)
    conditions = balanced_conditions(contestant.batch_size, num_classes)
    num_steps, seeds = contestant.num_steps, range(contestant.batch_size)

    def ours(phases: Phases) -> None:
        nat.forget_first_passes()
        generators = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        with phases.watching(
            ("nat", nat.transformer, "forward"),
            ("sampling", _generation, "decode_step"),
            ("sampling", _generation, "draw_uniforms"),
        ):
            following = phases.of("policy", policy)
            ids = _generation.generate_tokens(nat, following, conditions, num_steps, generators)
        phases.of("tokenizer", decode)(ids)

    def authors(phases: Phases) -> None:
        with phases.watching(("sampling", peer, "authors_step")):
            peer.authors_generate(
                phases.of("nat", nat.transformer),
                phases.of("policy", policy),
                phases.of("tokenizer", decode),
                conditions,
                num_steps,
                nat.num_tokens,
                nat.mask_id,
                nat.null_condition,
            )

    return authors if contestant.authors else ours


def prepared_batch(contestant: Contestant) -> Callable[[], None]:
    """A batch to decode, with its models loaded."""
    return partial(prepared(contestant), Phases())


def _models(contestant: Contestant) -> tuple[FrozenNAT, Callable[..., Any], DecodingPolicy, int]:
    """The NAT, what decodes its tokens, the policy, and the number of classes."""
    num_steps, config = contestant.num_steps, contestant.nat
    if isinstance(config, UViTConfig):
        nat, num_classes = random_nat(config, contestant.dtype), config.num_classes
        decode = torch.clone  # there is no tokenizer
    else:
        bundle = load_bundle(config, contestant.dtype)
        nat, decode, num_classes = bundle.nat, bundle.tokenizer.decode, len(bundle.conditions)
        if contestant.policy != "untrained":
            policy = named_policy(contestant.policy, bundle, num_steps)[1]
            return nat, decode, policy, num_classes
    policy = untrained_network(nat, num_steps, contestant.hidden_size)
    return nat, decode, policy, num_classes


def random_nat(config: UViTConfig, dtype: str) -> FrozenNAT:
    """Without training; the same one for the same sizes."""
    with seeded_weights(0):
        uvit = UViT(config)
    return FrozenNAT(uvit, config.num_classes, dtype=resolve_dtype(dtype))


def untrained_network(nat: FrozenNAT, num_steps: int, hidden_size: int) -> LearnedPolicy:
    """A policy network before training: does what the papers' schedule does, at its own price."""
    actor = AdaNATNetwork(nat.feature_size, nat.feature_grid, 4, hidden_size)
    return LearnedPolicy(actor.eval(), ActionMap(heuristic_schedule(num_steps)), 0.0, num_steps)


def targets(rows: Sequence[Row]) -> list[Row]:
    """What is held against a limit: fashion at its largest batch, and the papers' size."""
    ours = [row for row in rows if row["loop"].startswith("nat_env")]
    largest = max((row["batch"] for row in ours if row["nat"] == "fashion"), default=0)
    found = []
    for row in ours:
        where = f"{row['nat']}, T = {row['T']}, {row['loop']}"
        fashion = row["nat"] == "fashion"
        goal = TIMES_THE_AUTHORS.get((row["nat"], row["T"], row["loop"]))
        if fashion and row["batch"] < largest:
            continue
        if goal:
            found.append(target(f"{where}: times the authors' loop", row["ratio"], at_least=goal))
        if fashion:
            outside = 1 - row["nat_share"] - row["tokenizer_share"]
            reached = row["of_ceiling_share"]
            found += [
                target(f"{where}: share outside NAT and tokenizer", outside, at_most=0.1),
                target(f"{where}: share of the policy", row["policy_share"], at_most=0.02),
                target(f"{where}: NAT, share of the ceiling", reached, at_least=0.8),
            ]
    return found
