"""Command nat-bench: how fast the library is, beside what people would use instead."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from eval.bench import decode, environment, growth, start, training
from eval.bench.decode import DecodeOptions
from eval.bench.environment import EnvOptions
from eval.bench.growth import ScaleOptions
from eval.bench.machine import ceilings
from eval.bench.report import Row, Section
from eval.bench.start import StartOptions
from eval.bench.targets import targets
from eval.bench.training import TrainOptions
from eval.evaluation.rows import stamp
from nat_env.bundles.bundle import resolve_dtype
from nat_env.commands.parsing import parse
from nat_env.models.uvit import UViTConfig
from nat_env.storage.files import require_writable_folder, write_json, write_text

Part = Literal["decode", "env", "train", "scale", "start"]
RESULTS = "bench.json"
TABLE = "bench.md"

TINY = UViTConfig(
    codebook_size=16, num_tokens=16, num_classes=10, hidden_size=32, depth=3, num_heads=2
)

QUICK: dict[str, Any] = {
    "decode": DecodeOptions(
        ("digits",), (2,), (2,), large=TINY, large_num_steps=2, large_batch_size=2
    ),
    "env": EnvOptions("digits", num_envs=4, num_steps=2),
    "train": TrainOptions("digits", trajectories_per_round=8),
    "scale": ScaleOptions(
        "digits", (2, 4), (4, 16), (2, 4), (4, 8), rollout_num_envs=2, batch_size=2, uvit=TINY
    ),
    "start": StartOptions("digits", num_steps=2),
}
"""The parts' options for `quick`."""


@dataclass(frozen=True)
class Arguments:
    """Measure the library's speed, with what one would use instead by turns, on the CPU.

    Writes bench.json and bench.md after every part. Wants a machine that does nothing else.
    """

    out: Path
    """Folder for bench.json and bench.md."""
    parts: tuple[Part, ...] = ("decode", "env", "train", "scale", "start")
    """decode: generation against the authors' loop. env: steps of the environment. train: a round
    of PPO. scale: how time and memory grow. start: until the first episode has finished."""
    repeats: int = 5
    """Of all that is timed, after one warm-up; tables give median, minimum and maximum. Memory and
    torch's profiles are measured once, ceilings as the best of several."""
    threads: int = 2
    """Torch threads."""
    quick: bool = False
    """Tiny sizes, whatever the parts' options say: shows that everything runs."""
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    env: EnvOptions = field(default_factory=EnvOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    scale: ScaleOptions = field(default_factory=ScaleOptions)
    start: StartOptions = field(default_factory=StartOptions)
    progress: Annotated[bool, tyro.conf.Suppress] = True

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: no part, or a number below 1.
        """
        if not self.parts:
            raise ValueError("parts: got none, allowed is at least one")
        for name in ("repeats", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed is >= 1")


def run(arguments: Arguments) -> str:
    """Measure the parts.

    Returns:
        All tables, in Markdown.

    Raises:
        ValueError: an unknown bundle, policy or preset, a policy that is for another bundle or T, a
            number that is not allowed, or a folder that cannot be written.
    """
    require_writable_folder(arguments.out)
    options = replace(arguments, **QUICK) if arguments.quick else arguments
    repeats = arguments.repeats
    parts: dict[Part, Callable[[], list[Section]]] = {
        "decode": lambda: decode.run(options.decode, repeats),
        "env": lambda: environment.run(options.env, repeats),
        "train": lambda: training.run(options.train, repeats),
        "scale": lambda: growth.run(options.scale, repeats),
        "start": lambda: start.run(options.start, repeats, arguments.threads),
    }
    if "decode" in arguments.parts:
        decode.check(options.decode)
    sizes, copied = ((64,), 1) if arguments.quick else ((512, 1024, 2048, 4096), 512)
    made = stamp()
    machine = ceilings(sizes, copied, repeats) | {
        "date": made["date"],
        "commit": made["commit"],
        "command": made["command"],
        "repeats": repeats,
        "quick": arguments.quick,
        "bfloat16_where_auto": resolve_dtype("auto") == torch.bfloat16,
        "options": {part: asdict(getattr(options, part)) for part in parts},
    }
    results: dict[str, Any] = {"machine": machine}
    measured: dict[str, list[Section]] = {}
    text = ""
    for part in dict.fromkeys(arguments.parts):
        if arguments.progress:
            print(f"nat-bench: {part}", flush=True)
        sections = parts[part]()
        results[part] = [section.as_json() for section in sections]
        measured[part] = sections
        held = [] if arguments.quick else [targets(measured)]
        results["targets"] = [section.as_json() for section in held]
        tables = [s.markdown() for s in chain(held, *measured.values())]
        text = "\n\n".join([_heading(machine), *tables])
        write_json(arguments.out / RESULTS, results)
        write_text(arguments.out / TABLE, text + "\n")
    return text


def _heading(machine: Row) -> str:
    return (
        f"{machine['processor']}, {machine['cpu_count']} cores, torch {machine['torch']} with "
        f"{machine['torch_threads']} threads; {machine['date']}, commit {machine['commit']}: "
        f"`{machine['command']}`. The dtype auto is "
        f"{'bfloat16' if machine['bfloat16_where_auto'] else 'float32'}, and so is the transformer "
        "in all parts but `decode`. Measured ceilings: matrix product "
        f"{machine['float32_gflops']:.0f} GFLOP/s in float32, {machine['bfloat16_gflops']:.0f} in "
        f"bfloat16; memory copy {machine['copy_gb_per_second']:.1f} GB/s (read plus written). "
        f"Medians of {machine['repeats']} repeats (minimum .. maximum)."
    )


def main() -> None:
    """Entry point."""
    try:
        arguments = parse(Arguments, "nat-bench")
        torch.set_num_threads(arguments.threads)
        print(run(arguments))
    except ValueError as error:
        raise SystemExit(f"nat-bench: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("nat-bench: interrupted") from None
    print(arguments.out / TABLE)


if __name__ == "__main__":
    main()
