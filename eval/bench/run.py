"""Command nat-bench: how fast the library is, beside what people would use instead."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from eval.bench import decode, environment, growth, start, training
from eval.bench.measure import most_per_second
from eval.bench.options import (
    QUICK,
    DecodeOptions,
    EnvOptions,
    ScaleOptions,
    StartOptions,
    TrainOptions,
)
from eval.bench.report import Row, Section
from eval.evaluation.rows import stamp
from nat_env.bundles.bundle import resolve_dtype
from nat_env.commands.parsing import parse
from nat_env.storage.files import require_writable_folder, write_json, write_text

Part = Literal["decode", "env", "train", "scale", "start"]
RESULTS = "bench.json"
TABLE = "bench.md"
RUN: dict[Part, Callable[[Any, int], list[Section]]] = {
    "decode": decode.run,
    "env": environment.run,
    "train": training.run,
    "scale": growth.run,
    "start": start.run,
}


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
    """Turns of all that is timed; memory is measured once."""
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
    chosen = tuple(dict.fromkeys(arguments.parts))
    if "decode" in chosen:
        decode.check(options.decode)
    if "train" in chosen:
        training.configuration(options.train)
    about = stamp() | {
        "repeats": arguments.repeats,
        "quick": arguments.quick,
        "dtype_auto": str(auto := resolve_dtype("auto")).removeprefix("torch."),
        "gflops_float32": 2e-9 * most_per_second(torch.float32),
        "gflops_auto": 2e-9 * most_per_second(auto),
        "options": {part: asdict(getattr(options, part)) for part in chosen},
    }
    measured: dict[str, list[Section]] = {}
    text = ""
    for part in chosen:
        if arguments.progress:
            print(f"nat-bench: {part}", flush=True)
        measured[part] = RUN[part](getattr(options, part), arguments.repeats)
        sections = list(chain(*measured.values()))
        if not arguments.quick:  # sizes that small say nothing about them
            held = [row for section in sections for row in section.targets]
            sections = [Section("Targets", held, "What is missing was not measured."), *sections]
        text = "\n\n".join([_heading(about), *(section.markdown() for section in sections)])
        results = {"about": about, "sections": [section.as_json() for section in sections]}
        write_json(arguments.out / RESULTS, results)
        write_text(arguments.out / TABLE, text + "\n")
    return text


def _heading(about: Row) -> str:
    machine = about["machine"]
    return (
        f"{machine['processor']}, {machine['cpu_count']} cores, torch {machine['torch']} with "
        f"{machine['torch_threads']} threads; {about['date']}, commit {about['commit']}: "
        f"`{about['command']}`. The dtype auto is {about['dtype_auto']}. The fastest product of "
        f"two square matrices: {about['gflops_float32']:.0f} GFLOP/s in float32, "
        f"{about['gflops_auto']:.0f} in that, a multiply-add being two. Seconds: median ± "
        f"interquartile range of {about['repeats']} turns."
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
