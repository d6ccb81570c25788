"""Command nat-bench: how fast the library is, beside what people would use instead."""

from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

import torch

from eval.bench import decode, environment, growth, paper_round, start, training
from eval.bench.measure import most_per_second
from eval.bench.options import QUICK, Bench, Part
from eval.bench.report import Row, Section
from eval.evaluation.rows import stamp
from nat_env.bundles.loading import resolve_dtype
from nat_env.storage.files import require_writable_folder, write_json, write_text

RESULTS = "bench.json"
TABLE = "bench.md"
RUN: dict[Part, Callable[[Any, int], list[Section]]] = {
    "decode": decode.run,
    "env": environment.run,
    "train": training.run,
    "scale": growth.run,
    "start": start.run,
    "paper-round": paper_round.run,
}


def run(arguments: Bench) -> str:
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
    if "paper-round" in chosen:
        paper_round.configuration(options.paper_round, arguments.out)
    about = stamp() | {
        "repeats": arguments.repeats,
        "quick": arguments.quick,
        "dtype_auto": str(auto := resolve_dtype("auto")).removeprefix("torch."),
        "gflops_float32": 2e-9 * most_per_second(torch.float32),
        "gflops_auto": 2e-9 * most_per_second(auto),
        "options": {part: asdict(_options_of(options, part)) for part in chosen},
    }
    measured: dict[str, list[Section]] = {}
    text = ""
    for part in chosen:
        if arguments.progress:
            print(f"nat-bench: {part}", flush=True)
        measured[part] = RUN[part](_options_of(options, part), arguments.repeats)
        sections = list(chain(*measured.values()))
        held = [row for section in sections for row in section.targets]
        if held and not arguments.quick:  # sizes that small say nothing about them
            sections = [Section("Targets", held, "What is missing was not measured."), *sections]
        text = "\n\n".join([_heading(about), *(section.markdown() for section in sections)])
        results = {"about": about, "sections": [section.as_json() for section in sections]}
        write_json(arguments.out / RESULTS, results)
        write_text(arguments.out / TABLE, text + "\n")
    return text


def _options_of(options: Bench, part: Part) -> Any:
    return getattr(options, part.replace("-", "_"))


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


def command(arguments: Bench) -> None:
    """Measure, and show the tables."""
    print(run(arguments), arguments.out / TABLE, sep="\n")
