"""Images per second of decoding, where the time goes, and the authors' loop beside it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Literal

import torch
import tyro

from agents.learners.config import PRESETS
from eval.bench.arithmetic import MultiplyAdds, Product, ProductRecorder, ceiling_seconds
from eval.bench.loops import PHASES, Around, Contestant, Setting, loop, prepared
from eval.bench.memory import peak_memory
from eval.bench.operations import KINDS, nat_calls, operation_shares
from eval.bench.report import Row, Section
from eval.bench.subjects import PAPER_SMALL, subject
from eval.bench.timing import Phases, Spread, interleaved
from nat_env.bundles.bundle import resolve_dtype
from nat_env.models.uvit import UViTConfig

CEILING_REPEATS = 30
IDENTITY = ("bundle", "T", "batch", "loop")
SHARES = tuple(f"{name}_share" for name in (*PHASES, "rest", "policy_multiply_adds", "of_ceiling"))
OPERATIONS = tuple(f"{kind}_share" for kind in (*KINDS, "other"))


@dataclass(frozen=True)
class DecodeOptions:
    """Options of the part `decode`."""

    bundles: tuple[str, ...] = ("fashion", "digits")
    """Shipped names or folders."""
    num_steps: tuple[int, ...] = (4, 8)
    """Values of T."""
    batch_sizes: tuple[int, ...] = (16, 256)
    dtypes: tuple[Literal["float32", "bfloat16", "auto"], ...] = ("float32", "auto")
    """Of the transformer, in this library's loop; the authors' loop is in float32. auto: bfloat16
    where the hardware multiplies it fast."""
    policy: str = "untrained"
    """A policy network before its training, which does what the heuristic does, or whatever
    nat-eval takes for a policy."""
    papers_size: bool = True
    """Also a U-ViT with random weights at the papers' size S: minutes on a CPU."""
    large: Annotated[UViTConfig, tyro.conf.Suppress] = PAPER_SMALL
    large_num_steps: int = 8
    """T of that one."""
    large_batch_size: int = 16

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: nothing to measure, or a number below 1.
        """
        for name in ("bundles", "num_steps", "batch_sizes", "dtypes"):
            if not getattr(self, name):
                raise ValueError(f"{name}: got none, allowed is at least one")
        for name in ("num_steps", "batch_sizes"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed are numbers >= 1")
        for name in ("large_num_steps", "large_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed is >= 1")

    @property
    def settings(self) -> list[Setting]:
        """What is measured but for the papers' size."""
        chosen = product(self.bundles, self.num_steps, self.batch_sizes)
        return [
            Setting(bundle, num_steps, batch_size, self.policy, _width(bundle))
            for bundle, num_steps, batch_size in dict.fromkeys(chosen)
        ]


def _width(bundle: str) -> int:
    """Of the policy network that nat-train makes for the bundle."""
    _, preset = PRESETS.get(bundle, PRESETS["fashion"])
    return preset.hidden_size


def check(options: DecodeOptions) -> None:
    """Load what is to be measured.

    Raises:
        ValueError: an unknown bundle or policy, or one that is for another bundle or T.
    """
    for setting in options.settings:
        loop(Contestant(setting, "float32"))


def run(options: DecodeOptions, repeats: int) -> list[Section]:
    """Measure.

    Raises:
        ValueError: an unknown bundle or policy, or a number that is not allowed.
    """
    rows = [
        row for setting in options.settings for row in compared(setting, options.dtypes, repeats)
    ]
    if options.papers_size:
        steps, batch_size = options.large_num_steps, options.large_batch_size
        setting = Setting(options.large, steps, batch_size)
        rows += compared(setting, options.dtypes, repeats, large=True)
    return [
        Section(
            "Decoding",
            [_only(row) for row in rows],
            "The loops by turns. `authors' loop`: AdaNAT's as described, 2 T + 1 separate passes, "
            "same weights and policy, float32. Ratio: images per second against it, repeat by "
            "repeat. This library keeps the pass on the all-masked canvas from batch to batch; "
            "`anew`: as if no batch had a label seen before. Peak: resident memory in a process of "
            "its own.",
        ),
        Section(
            "Where the decoding time goes",
            [_only(row, SHARES) for row in rows],
            "Medians. Sampling: the transition and its random numbers. Of ceiling: what the "
            "matrix products of the NAT take at the best speed of their shapes, each alone and "
            "measured once for all rows, against what the NAT takes at best.",
        ),
        Section(
            "Where the NAT's time goes",
            [_only(row, OPERATIONS) for row in rows if OPERATIONS[0] in row],
            "Seconds of torch's operations, by its profiler, in the passes of one batch.",
        ),
    ]


def compared(
    setting: Setting, dtypes: tuple[str, ...], repeats: int, large: bool = False
) -> list[Row]:
    """This library's loop in each dtype and the authors' loop, a row each.

    Args:
        setting: what is decoded.
        dtypes: of this library's loop.
        repeats: of each.
        large: also what does not matter to a small model: memory, and what the first pass costs
            where it is not kept.
    """
    resolved = [str(resolve_dtype(dtype)).removeprefix("torch.") for dtype in dtypes]
    ours = [Contestant(setting, dtype) for dtype in dict.fromkeys(resolved)]
    if large:
        ours += [replace(contestant, first_pass_kept=False) for contestant in ours]
    contestants = [*ours, Contestant(setting, "float32", authors=True)]
    loops = {c.name: loop(c) for c in contestants}
    kept: dict[str, list[Phases]] = {name: [] for name in loops}

    def timed(name: str) -> Callable[[], None]:
        def decode() -> None:
            kept[name].append(Phases())
            loops[name](kept[name][-1].timed)

        return decode

    seconds = interleaved({name: timed(name) for name in loops}, repeats)
    authors = seconds[contestants[-1].name]
    return [
        _row(c, loops[c.name], seconds[c.name], authors, kept[c.name][-repeats:], large)
        for c in contestants
    ]


def _row(
    contestant: Contestant,
    decode: Callable[[Around], None],
    seconds: list[float],
    authors: list[float],
    phases: list[Phases],
    large: bool,
) -> Row:
    setting = contestant.setting
    count = MultiplyAdds()
    decode(count.counted)
    total = sum(count.counts.values())
    row: Row = {
        "bundle": subject(setting.sizes, contestant.dtype).name,
        "T": setting.num_steps,
        "batch": setting.batch_size,
        "loop": contestant.name,
        "images_per_second": Spread.of([setting.batch_size / s for s in seconds]),
        "ratio": Spread.of([theirs / s for theirs, s in zip(authors, seconds, strict=True)]),
        "million_multiply_adds_per_image": total / setting.batch_size / 1e6,
    }
    if large:
        row["peak_mb"] = peak_memory(prepared, contestant).peak
    row |= _shares(seconds, phases)
    if contestant.first_pass_kept and not contestant.authors:
        row |= operation_shares(nat_calls(decode))
    row["policy_multiply_adds_share"] = count.counts["policy"] / total
    # The best against the best: a machine's slow moments are not the loop's.
    nat_seconds = min(p.seconds["nat"] for p in phases)
    dtype = getattr(torch, contestant.dtype)
    ceiling = ceiling_seconds(nat_products(decode), dtype, CEILING_REPEATS)
    row["of_ceiling_share"] = ceiling / nat_seconds
    return row


def _shares(seconds: list[float], phases: list[Phases]) -> Mapping[str, float]:
    """Medians over the repeats of each phase's part of the whole, and of what is left."""
    parts = [[p.seconds[name] / s for name in PHASES] for p, s in zip(phases, seconds, strict=True)]
    columns = zip(*[[*p, 1 - sum(p)] for p in parts], strict=True)
    names = [f"{name}_share" for name in (*PHASES, "rest")]
    return {n: Spread.of(values).median for n, values in zip(names, columns, strict=True)}


def nat_products(decode: Callable[[Around], None]) -> Counter[Product]:
    """The matrix products of the NAT in one batch."""
    again = nat_calls(decode)
    with (recorder := ProductRecorder()):
        again()
    return recorder.products


def _only(row: Row, names: tuple[str, ...] = ()) -> Row:
    """What tells the row apart, with these of its numbers, or with those that are no shares."""
    chosen = names or [name for name in row if not name.endswith("_share")]
    return {k: v for k, v in row.items() if k in (*IDENTITY, *chosen)}
