"""Memory that has to stay: over the rounds of a training, and with the number of images judged."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import linear_regression
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from agents.learners.config import TrainConfig
from agents.training.train import Training
from eval.bench import training
from eval.bench.measuring.memory import measured_apart, resident
from eval.bench.measuring.report import Row, Section, target
from eval.bench.options import MemoryOptions, TrainOptions
from eval.evaluation.measure import measure
from eval.judges.judge import bundle_judge
from eval.judges.references import reference
from nat_env.bundles.loading import load_bundle
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule

MB_PER_100_ROUNDS = 1.0
MB_OF_IMAGES = 16.0
"""What resident memory may differ by between few images judged and many; see `EACH_IMAGE`."""
EACH_IMAGE = 16 / 2**20
"""MB that an evaluation keeps of each image, its class and its part of the score."""


def run(options: MemoryOptions, repeats: int) -> Iterator[Section]:
    """Measure once, in processes of their own; `repeats` does not count."""
    del repeats
    yield over_rounds(options)
    yield over_images(options)


def over_rounds(options: MemoryOptions) -> Section:
    """Resident memory at the ends of the rounds of one training."""
    config = replace(
        training.configuration(
            TrainOptions(options.preset, options.trajectories_per_round, device=options.device)
        ),
        budget=options.rounds * options.trajectories_per_round,
        eval_every=max(1, options.rounds // 4),
    )
    with TemporaryDirectory() as folder:
        _, found = measured_apart(prepared_rounds, replace(config, out=Path(folder) / "run"))
    left_out = len(found) // 4
    slope = slope_per_100(found[left_out:])
    rows: list[Row] = [
        {"round": number + 1, "resident_mb": found[number]}
        for number in sorted({0, left_out, len(found) // 2, len(found) - 1})
    ]
    note = (
        f"Preset {options.preset}, {options.rounds} rounds of {options.trajectories_per_round} "
        f"trajectories with evaluations, checkpoints and reports. After the first {left_out} "
        f"rounds, by least squares over all others: {slope:.2f} MB per 100 rounds."
    )
    held = target(
        f"{options.preset}: MB of resident memory per 100 rounds", slope, at_most=MB_PER_100_ROUNDS
    )
    return Section("Memory over rounds", rows, note, [held])


def slope_per_100(values: Sequence[float]) -> float:
    """Growth by 100 places of a sequence, by least squares.

    Example:
        >>> slope_per_100([5.0, 5.5, 6.0])
        50.0
    """
    return 100 * linear_regression(range(len(values)), values).slope


def prepared_rounds(config: TrainConfig) -> Callable[[], list[float]]:
    """A training; gives the resident memory after each update of its policy, in MB."""
    run: Any = Training(config, progress=False)
    train = run.model.train
    found: list[float] = []

    def watched(*args: Any, **kwargs: Any) -> None:
        train(*args, **kwargs)
        found.append(resident("VmRSS"))

    def work() -> list[float]:
        with patch.object(run.model, "train", watched):
            run.run()
        return found

    return work


def over_images(options: MemoryOptions) -> Section:
    """Peak memory of an evaluation above what is loaded, by the number of images."""
    bundle = training.configuration(TrainOptions(options.preset)).bundle
    rows: list[Row] = []
    for count in options.images:
        memory, seconds = measured_apart(prepared_images, bundle, count, options.device)
        rows.append(
            {
                "images": count,
                "seconds": seconds,
                "images_per_second": count / seconds,
                "above_start_mb": memory.rise,
            }
        )
    few, many = (min(rows, key=_count), max(rows, key=_count))
    growth = many["above_start_mb"] - few["above_start_mb"]
    growth -= EACH_IMAGE * (many["images"] - few["images"])
    note = (
        f"Bundle {bundle}, T = 4, under its own judge: batches are judged as they are decoded. "
        "Each in a process of its own; peak above what was resident with all loaded."
    )
    held = target(
        f"{bundle}: MB more for {many['images']} images judged than for {few['images']}, but for "
        "16 bytes of each",
        growth,
        at_most=MB_OF_IMAGES,
    )
    return Section("Memory over images judged", rows, note, [held])


def prepared_images(name: str, count: int, device: str) -> Callable[[], float]:
    """An evaluation of so many images with all loaded; gives its seconds."""
    bundle = load_bundle(name, device=device)
    policy = ScheduledPolicy(heuristic_schedule(4))
    judged = [reference(bundle, bundle_judge(bundle))]
    evaluate = partial(measure, bundle, policy, 4, seed=0, judges=judged)

    def work() -> float:
        found = evaluate(num_samples=count)
        return found.seconds + found.judge_seconds

    evaluate(num_samples=2 * bundle.require("yardstick").statistics.mean.size)
    return work


def _count(row: Row) -> int:
    return row["images"]
