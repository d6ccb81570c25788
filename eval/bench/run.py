"""Command nat-bench: how fast the library is, beside what people would use instead."""

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from eval.bench import decode, environment, growth, paper_round, plan, resident, start, training
from eval.bench.measuring.report import Row, Section
from eval.bench.measuring.timing import most_per_second
from eval.bench.options import QUICK, Bench, Part, TrainOptions
from eval.evaluation.rows import stamp
from nat_env.bundles.loading import check_device, resolve_dtype
from nat_env.commands.machine import accelerator_name
from nat_env.storage.files import require_writable_folder, write_json, write_text

RESULTS = "bench.json"
TABLE = "bench.md"
RUN: dict[Part, Callable[[Any, int], Iterable[Section]]] = {
    "decode": decode.run,
    "env": environment.run,
    "train": training.run,
    "scale": growth.run,
    "start": start.run,
    "memory": resident.run,
    "paper-round": paper_round.run,
    "plan": plan.run,
}


def run(arguments: Bench) -> str:
    """Measure the parts.

    Returns:
        All tables, in Markdown.

    Raises:
        ValueError: an unknown device, bundle, policy or preset, a policy that is for another bundle
            or T, a number that is not allowed, or a folder that cannot be written.
        SystemExit: a part has failed; the others are measured and written.
    """
    device = check_device(arguments.device)
    require_writable_folder(arguments.out)
    options = replace(arguments, **QUICK) if arguments.quick else arguments
    chosen = tuple(dict.fromkeys(arguments.parts))
    _check(options, chosen)
    about = stamp() | {
        "repeats": arguments.repeats,
        "quick": arguments.quick,
        "device": device,
        "accelerator": None if device == "cpu" else accelerator_name() or device,
        "dtype_auto": str(auto := resolve_dtype("auto", device)).removeprefix("torch."),
        "gflops_float32": 2e-9 * most_per_second(torch.float32, device=device),
        "gflops_auto": 2e-9 * most_per_second(auto, device=device),
        "options": {part: asdict(_options_of(options, part)) for part in chosen},
    }
    report = _Report(arguments, about)
    for part in chosen:
        if arguments.progress:
            print(f"nat-bench: {part}", flush=True)
        try:
            for section in RUN[part](_options_of(options, part), arguments.repeats):
                report.add(section)
        except Exception as error:  # whatever it is, it is the end of this part alone
            traceback.print_exc()
            report.add(Section(part, [], f"Failed: {type(error).__name__}: {error}"))
            report.failed.append(part)
    if report.failed:
        print(report.text)
        raise SystemExit(f"nat-bench: failed: {', '.join(report.failed)}")
    return report.text


def _check(options: Bench, chosen: Sequence[Part]) -> None:
    """Refuse what cannot be measured, before anything is."""
    if "decode" in chosen:
        decode.check(_options_of(options, "decode"))
    if "train" in chosen:
        training.configuration(options.train)
    if "paper-round" in chosen:
        for count in options.paper_round.trajectories:
            paper_round.configuration(options.paper_round, count, options.out)
    if "plan" in chosen:
        rounds = plan.rounds_of(options.plan)
        for count in rounds.trajectories:
            paper_round.configuration(rounds, count, options.out)
    if "memory" in chosen:
        training.configuration(TrainOptions(options.memory.preset))


class _Report:
    """What has been measured so far, written whenever a section is added."""

    def __init__(self, arguments: Bench, about: Row) -> None:
        self.arguments, self.about = arguments, about
        self.sections: list[Section] = []
        self.failed: list[Part] = []
        self.text = ""

    def add(self, section: Section) -> None:
        if accelerator := self.about["accelerator"]:
            rows = [{"accelerator": accelerator} | row for row in section.rows]
            section = replace(section, rows=rows)
        self.sections.append(section)
        sections = self.sections
        held = [row for section in sections for row in section.targets]
        if held and not self.arguments.quick:  # sizes that small say nothing about them
            sections = [Section("Targets", held, "What is missing was not measured."), *sections]
        self.text = "\n\n".join([_heading(self.about), *(one.markdown() for one in sections)])
        results = {"about": self.about, "sections": [one.as_json() for one in sections]}
        write_json(self.arguments.out / RESULTS, results)
        write_text(self.arguments.out / TABLE, self.text + "\n")


def _options_of(options: Bench, part: Part) -> Any:
    of_all = {name: getattr(options, name) for name in ("decoder_dtype", "compiled", "tf32")}
    own = getattr(options, part.replace("-", "_"))
    return replace(own, device=check_device(options.device), **of_all)


def _heading(about: Row) -> str:
    machine = about["machine"]
    on = f"{about['accelerator']} beside " if about["accelerator"] else ""
    return (
        f"{on}{machine['processor']}, {machine['cpu_count']} cores, torch {machine['torch']} with "
        f"{machine['torch_threads']} threads; {about['date']}, commit {about['commit']}: "
        f"`{about['command']}`. The dtype auto is {about['dtype_auto']}. The fastest product of "
        f"two square matrices: {about['gflops_float32']:.0f} GFLOP/s in float32, "
        f"{about['gflops_auto']:.0f} in that, a multiply-add being two. Seconds: median ± "
        f"interquartile range of {about['repeats']} turns."
    )


def command(arguments: Bench) -> None:
    """Measure, and show the tables."""
    print(run(arguments), arguments.out / TABLE, sep="\n")
