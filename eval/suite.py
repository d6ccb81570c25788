"""The papers' comparison of decoding policies, from scratch, at equal budgets of generated images.

AdaNAT's Table 5 and appendices B and D and Figure 4, AutoNAT's generation strategy: every method on
one bundle, with its own folder for each T and seed.

    python -m eval.suite --quick --out runs/suite
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from agents import search
from agents.checkpoint import CONFIG
from agents.computation import machine
from agents.config import PRESETS, TrainConfig
from agents.train import Training
from eval import run
from eval.evaluate import check_numbers
from eval.tables import Results, Row
from nat_env.files import require_writable_folder, write_json, write_text

DONE = "done.json"


@dataclass(frozen=True)
class Arguments:
    """Train or search every method for every T and seed, and compare what they decode.

    Called again, it goes on where it stopped: by a seed, a T or a method more, if asked for more.
    """

    out: Path
    """Folder; a sub-folder for each T, method and seed, and suite.md."""
    quick: bool = False
    """T = 4, seed 0, two thirds of the images, N = 2000: within an hour on two cores."""
    bundle: str = "fashion"
    """A shipped bundle's name."""
    methods: tuple[str, ...] = ()
    """Some of the methods by name; by default all."""
    num_steps: tuple[int, ...] = (4, 8)
    """Values of T."""
    seeds: tuple[int, ...] = (0, 1, 2)
    images: int | None = None
    """Budget of each training or search; by default that of the bundle's preset of nat-train."""
    num_samples: int = 10_000
    """N, images of an evaluation."""
    second_judge: bool = True
    """Also judge by EfficientNet-Lite0, which no method is trained with."""
    threads: int = 2
    """Torch threads; one when another program is busy beside it."""
    progress: Annotated[bool, tyro.conf.Suppress] = True

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: a bundle without a preset, an unknown method, no T or no seed.
        """
        if self.bundle not in PRESETS or self.bundle == "paper":
            allowed = sorted(PRESETS.keys() - {"paper"})
            raise ValueError(f"bundle: got {self.bundle!r}, allowed are {allowed}")
        for name in self.methods:
            if name not in METHODS:
                raise ValueError(f"methods: got {name!r}, allowed are {list(METHODS)}")
        for name in ("num_steps", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name}: got none, allowed is at least one")
        for seed in self.seeds:
            check_numbers(self.num_samples, seed, batch_size=1)

    @property
    def preset(self) -> TrainConfig:
        """Of nat-train for the bundle."""
        return PRESETS[self.bundle][1]

    def resolved(self) -> "Arguments":
        """With the numbers that `quick` and defaults stand for."""
        budget = self.images or self.preset.trajectories
        methods = self.methods or tuple(METHODS)
        if not self.quick:
            return dataclasses.replace(self, images=budget, methods=methods)
        return dataclasses.replace(
            self, images=self.images or budget * 2 // 3, methods=methods,
            num_steps=(4,), seeds=(0,), num_samples=min(self.num_samples, 2000),
        )  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One method at one T and seed."""

    arguments: Arguments
    num_steps: int
    seed: int
    folder: Path


@dataclass(frozen=True)
class Method:
    """A way to a policy."""

    about: str
    prepare: Callable[[Trial], None]
    """Train or search in the trial's folder, or go on there."""
    policy: str
    """The policy's file in that folder. Of a training its last one: which was the best is known by
    evaluations only, that no budget counts and that hide a reward which leads astray."""


def training(about: str, **changes: Any) -> Method:
    """A method that is nat-train with some options changed."""

    def prepare(trial: Trial) -> None:
        images = trial.arguments.images
        assert images is not None
        config = dataclasses.replace(
            trial.arguments.preset,
            out=trial.folder,
            num_steps=trial.num_steps,
            trajectories=images,
            seed=trial.seed,
            threads=trial.arguments.threads,
            resume=(trial.folder / CONFIG).is_file(),
            **changes,
        )
        Training(config, trial.arguments.progress).run()

    return Method(about, prepare, "last.safetensors")


def schedule_search(about: str, name: str) -> Method:
    """A method that is nat-search."""

    def prepare(trial: Trial) -> None:
        images = trial.arguments.images
        assert images is not None
        search.search(
            search.Arguments(
                name,  # type: ignore[arg-type]
                out=trial.folder,
                bundle=trial.arguments.bundle,
                num_steps=trial.num_steps,
                images=images,
                seed=trial.seed,
                threads=trial.arguments.threads,
            )
        )

    return Method(about, prepare, search.SCHEDULE)


METHODS: dict[str, Method] = {
    "adaptive": training("PPO, discriminator (AdaNAT)"),
    "not-adaptive": training("PPO, discriminator, blind to the sample", adaptive=False),
    "adaptive-frechet": training("PPO, Frechet reward", reward="frechet", num_envs=32),
    "not-adaptive-frechet": training(
        "PPO, Frechet reward, blind to the sample", reward="frechet", num_envs=32, adaptive=False
    ),
    "adaptive-pretrained": training("PPO, the judge's log-likelihood", reward="judge"),
    "autonat": schedule_search("finite differences of the FD (AutoNAT)", "autonat"),
    "cma": schedule_search("CMA-ES on the FD", "cma"),
}

CLAIMS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("AdaNAT Table 5", "frechet_distance", ("adaptive", "not-adaptive", "heuristic")),
    ("AdaNAT appendix B", "frechet_distance", ("adaptive", "adaptive-frechet")),
    ("AdaNAT appendix D", "frechet_distance", ("adaptive", "not-adaptive-frechet")),
    ("AdaNAT Table 5, AutoNAT", "frechet_distance", ("adaptive", "autonat", "heuristic")),
    ("AdaNAT Figure 4", "recall", ("adaptive-pretrained", "adaptive")),
)
"""Orderings that the papers report: of what, and from the lowest value to the highest."""


def suite(arguments: Arguments) -> str:
    """Make what is missing, evaluate, compare.

    Returns:
        The report in Markdown, also written to suite.md.

    Raises:
        ValueError: an argument that is not allowed, or a folder that cannot be written.
        ImportError: the second judge's packages are not installed.
    """
    arguments = arguments.resolved()
    require_writable_folder(arguments.out)
    for num_steps in arguments.num_steps:
        for seed in arguments.seeds:
            for name in arguments.methods:
                _prepare(arguments, name, num_steps, seed)
    parts = [f"# Decoding policies on `{arguments.bundle}`", _budgets(arguments)]
    for num_steps in arguments.num_steps:
        folders = {n: _folder(arguments, n, num_steps, "{seed}") for n in arguments.methods}
        specs = [f"{name}={path / METHODS[name].policy}" for name, path in folders.items()]
        evaluation = run.Arguments(
            policies=("heuristic", *specs),
            out=arguments.out / f"T{num_steps}",
            num_steps=num_steps,
            num_samples=arguments.num_samples,
            seeds=arguments.seeds,
            bundle=arguments.bundle,
            second_judge=arguments.second_judge,
            metrics=True,
            threads=arguments.threads,
            progress=arguments.progress,
        )
        table, pictures = run.run(evaluation)
        links = [f"![{p.stem}]({p.relative_to(arguments.out)})" for p in pictures]
        asked = {"num_samples": arguments.num_samples, "bundle": arguments.bundle}
        rows = [
            row
            for row in Results(evaluation.out / run.RESULTS).rows
            if asked.items() <= row.items() and row["seed"] in arguments.seeds
        ]
        claims = orderings(rows)
        parts += [f"## T = {num_steps}", table, *claims, *links]
    report = "\n\n".join(parts)
    write_text(arguments.out / "suite.md", report + "\n")
    return report


def orderings(rows: Sequence[Row]) -> list[str]:
    """Whether the orderings of `CLAIMS` hold, by means over seeds under each judge.

    Args:
        rows: of one T and N.
    """
    lines = []
    for claim, quantity, methods in CLAIMS:
        if not set(methods) <= {row["policy"] for row in rows}:
            continue
        for judge in dict.fromkeys(row["judge"] for row in rows):
            values = [
                [row[quantity] for row in rows if (row["policy"], row["judge"]) == (method, judge)]
                for method in methods
            ]
            means = [float(np.mean(v)) for v in values]
            holds = all(a < b for a, b in pairwise(means))
            order = " < ".join(
                f"{method} ({mean:.3g})" for method, mean in zip(methods, means, strict=True)
            )
            verdict = "holds" if holds else "does NOT hold"
            what = quantity.replace("_", " ")
            lines.append(f"- {claim}, {what}, {judge}: {order} **{verdict}**")
    return ["\n".join(lines)] if lines else []


def _folder(arguments: Arguments, method: str, num_steps: int, seed: int | str) -> Path:
    return arguments.out / f"T{num_steps}" / method / str(seed)


def _prepare(arguments: Arguments, name: str, num_steps: int, seed: int) -> None:
    """One trial, unless it is done.

    Raises:
        ValueError: it is done with another budget.
    """
    folder = _folder(arguments, name, num_steps, seed)
    if (folder / DONE).is_file():
        images = json.loads((folder / DONE).read_text())["images"]
        if images != arguments.images:
            raise ValueError(
                f"out: {folder} was made with {images} images, now {arguments.images} are asked "
                "for; choose another folder"
            )
        return
    if arguments.progress:
        print(f"T = {num_steps}, seed {seed}: {name}", flush=True)
    started = time.perf_counter()
    METHODS[name].prepare(Trial(arguments, num_steps, seed, folder))
    seconds = time.perf_counter() - started
    done = {"images": arguments.images, "seconds_since_last_start": seconds, "machine": machine()}
    write_json(folder / DONE, done)


def _budgets(arguments: Arguments) -> str:
    lines = ["| method | how | images of a training or search |", "| --- | --- | ---: |"]
    lines += [f"| {n} | {METHODS[n].about} | {arguments.images} |" for n in arguments.methods]
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    try:
        arguments = tyro.cli(Arguments, prog="python -m eval.suite")
        torch.set_num_threads(arguments.threads)
        report = suite(arguments)
    except (ValueError, ImportError) as error:
        raise SystemExit(f"eval.suite: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("eval.suite: interrupted; the same command goes on") from None
    print("", report, arguments.out / "suite.md", sep="\n")


if __name__ == "__main__":
    main()
