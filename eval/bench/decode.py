"""Images per second of decoding, where the time goes, and the authors' loop beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch.utils.benchmark import Measurement

from eval.bench.contestants import PHASES, UVITS, Contestant, prepared
from eval.bench.measuring.memory import accelerator_peak, forget_accelerator_peak
from eval.bench.measuring.phases import Phases
from eval.bench.measuring.report import Row, Section, target
from eval.bench.measuring.timing import by_turns, most_per_second, multiply_adds
from eval.bench.options import DecodeOptions
from nat_env.bundles.loading import resolve_dtype

AUTHORS = "authors"
TIMES_THE_AUTHORS = {
    ("fashion", 4, "nat_env, bfloat16"): 5.0,
    ("fashion", 8, "nat_env, bfloat16"): 4.0,
    ("fashion", 4, "nat_env, float32"): 1.6,
    ("fashion", 8, "nat_env, float32"): 1.3,
    ("U-ViT 512 x 13", 8, "nat_env, bfloat16"): 3.0,
    ("U-ViT 768 x 25", 8, "nat_env, bfloat16"): 3.0,
}
"""What is aimed at, by NAT, T and loop; a machine without fast bfloat16 has float32 alone."""
LIMITS: dict[tuple[str, bool], dict[str, dict[str, float]]] = {
    ("fashion", False): {
        "share outside NAT and tokenizer": {"at_most": 0.1},
        "share of the policy": {"at_most": 0.02},
        "NAT, share of the ceiling": {"at_least": 0.8},
    },
    ("U-ViT 768 x 25", True): {
        "share outside NAT and tokenizer": {"at_most": 0.05},
        "NAT, share of the ceiling": {"at_least": 0.5},
    },
}
"""Further aims, by NAT and whether on an accelerator."""


def contestants(options: DecodeOptions) -> list[list[Contestant]]:
    """What goes by turns: for each model, T and batch, this library's loops, then the authors'."""
    device = options.device
    settings = [
        Contestant(
            bundle, num_steps, batch_size, policy=options.policy, hidden_size=128, device=device
        )
        for bundle in options.bundles
        for num_steps in options.num_steps
        for batch_size in options.batch_sizes
    ]
    settings += [
        Contestant(
            UVITS[name], num_steps, batch_size, tokenizer=options.random_tokenizer, device=device
        )
        for name in options.random
        for num_steps in options.random_num_steps
        for batch_size in options.random_batch_sizes
    ]
    dtypes = dict.fromkeys(
        str(resolve_dtype(d, device)).removeprefix("torch.") for d in options.dtypes
    )
    ours = [{"dtype": dtype, "decoder_dtype": options.decoder_dtype} for dtype in dtypes]
    if options.compiled:
        ours += [{**form, "compiled": True} for form in ours]
    return [
        [*(replace(setting, **form) for form in ours), replace(setting, authors=True)]
        for setting in settings
    ]


def check(options: DecodeOptions) -> None:
    """Load what is to be measured.

    Raises:
        ValueError: an unknown bundle or policy, or one that is for another bundle or T.
    """
    for group in contestants(options):
        if isinstance(group[0].nat, str):
            prepared(group[0])


def run(options: DecodeOptions, repeats: int) -> list[Section]:
    """Measure; see `check` for what is refused."""
    rows = [row for group in contestants(options) for row in compared(group, repeats)]
    note = (
        "The loops by turns, this library's with the tokenizer's decoder in "
        f"{options.decoder_dtype}. Authors: AdaNAT's loop as described, 2 T + 1 separate passes, "
        "same weights, tokenizer and policy, in float32, on an accelerator with their passes in "
        "float16 by autocast and torch's own choice of TF32. Ratio: of the medians of seconds a "
        "batch; of tokens: of the same without the tokenizer. Every batch makes its pass on the "
        "empty canvas anew, as if no label had been seen before. Sampling: the transition and its "
        "random numbers. Of ceiling: the multiply-adds per second of the NAT's passes, against "
        "those of the fastest product of two square matrices in that dtype, which is above what "
        "products of the NAT's shapes reach."
    )
    return [Section("Decoding", rows, note, targets(rows))]


def compared(group: Sequence[Contestant], repeats: int) -> list[Row]:
    """A row for each contestant; among them is the authors' loop, which sets the ratios.

    One row without numbers where the accelerator's memory does not hold them.
    """
    try:
        return _compared(group, repeats)
    except torch.OutOfMemoryError:
        return [_setting(group[0]) | {"loop": "out of memory"}]


def _compared(group: Sequence[Contestant], repeats: int) -> list[Row]:
    on = torch.device(group[0].device).type
    loops = {contestant.loop: prepared(contestant) for contestant in group}
    counts, peaks = {}, {}
    for contestant in group:  # which makes what is made once, too
        forget_accelerator_peak()
        counts[contestant.loop] = multiply_adds(prepared(replace(contestant, compiled=False)))
        if contestant.compiled:
            loops[contestant.loop](Phases())
        peaks[contestant.loop] = accelerator_peak()
    phases = {contestant.loop: Phases.on(contestant.device) for contestant in group}
    works = {n: partial(phases[n].of("rest", decode), phases[n]) for n, decode in loops.items()}
    seconds = by_turns(works, repeats, untimed=on == "cpu")
    rows = [_row(c, seconds, phases, counts[c.loop]) for c in group]
    if on == "cpu":
        return rows
    peak_mb = [{"device_peak_mb": peaks[c.loop]} for c in group]
    return [row | more for row, more in zip(rows, peak_mb, strict=True)]


def _row(
    contestant: Contestant,
    seconds: Mapping[str, Measurement],
    phases: Mapping[str, Phases],
    counts: Mapping[str, float],
) -> Row:
    batch_size, own = contestant.batch_size, seconds[contestant.loop]
    authors = next(name for name in seconds if name.startswith(AUTHORS))
    shares = phases[contestant.loop].shares(*PHASES)
    tokens = own.median * (1 - shares["tokenizer_share"])
    their_tokens = seconds[authors].median * (
        1 - phases[authors].shares(*PHASES)["tokenizer_share"]
    )
    speed = counts["nat"] / (own.median * shares["nat_share"])
    row: Row = {
        "loop": contestant.loop,
        "seconds": own,
        "images_per_second": batch_size / own.median,
        "ratio": seconds[authors].median / own.median,
        "ratio_of_tokens": their_tokens / tokens,
        "million_multiply_adds_per_image": sum(counts.values()) / batch_size / 1e6,
    }
    dtype = "float16" if contestant.autocast else contestant.dtype
    ceiling = most_per_second(resolve_dtype(dtype, contestant.device), device=contestant.device)
    return _setting(contestant) | row | shares | {"of_ceiling_share": speed / ceiling}


def _setting(contestant: Contestant) -> Row:
    nat = contestant.nat
    name = nat if isinstance(nat, str) else f"U-ViT {nat.hidden_size} x {nat.depth}"
    return {"nat": name, "T": contestant.num_steps, "batch": contestant.batch_size}


def targets(rows: Sequence[Row]) -> list[Row]:
    """What is held against a limit: each model at its largest batch."""
    ours = [row for row in rows if row["loop"].startswith("nat_env")]
    largest = {row["nat"]: row["batch"] for row in sorted(ours, key=lambda row: row["batch"])}
    found = []
    for row in ours:
        if row["batch"] < largest[row["nat"]]:
            continue
        where = f"{row['nat']}, T = {row['T']}, {row['loop']}"
        goal = TIMES_THE_AUTHORS.get((row["nat"], row["T"], row["loop"]))
        if goal:
            found.append(target(f"{where}: times the authors' loop", row["ratio"], at_least=goal))
        outside = 1 - row["nat_share"] - row["tokenizer_share"]
        limits = LIMITS.get((row["nat"], "device_peak_mb" in row), {})
        measured = {
            "share outside NAT and tokenizer": outside,
            "share of the policy": row["policy_share"],
            "NAT, share of the ceiling": row["of_ceiling_share"],
        }
        found += [
            target(f"{where}: {what}", measured[what], **limit) for what, limit in limits.items()
        ]
    return found
