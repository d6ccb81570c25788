"""Hand-tuning: a grid over the heuristic's (lambda, k, tau_1) and samplers, scored by FD.

The best schedule that a patient person would find, which a learned policy has to be better than.
"""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from agents.search.arguments import Grid
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import check_bundle_rank, frechet_of
from nat_env.bundles.loading import load_bundle
from nat_env.generation import generate_batches
from nat_env.policies import ScheduledPolicy
from nat_env.samplers.names import named_sampler, sampler_label
from nat_env.schedules import Schedule, heuristic_schedule
from nat_env.seeds import GRID
from nat_env.storage.claims import locked
from nat_env.storage.files import read_json, write_json

Trial = dict[str, Any]


def schedules_of(arguments: Grid) -> list[Schedule]:
    """One for each point of the grid.

    Raises:
        ValueError: a sampler that there is not.
    """
    grid = itertools.product(
        arguments.remask_slopes, arguments.guidance_slopes, arguments.sampling_temperatures
    )
    plain = [heuristic_schedule(arguments.num_steps, *point) for point in grid]
    samplers = [named_sampler(text) for text in arguments.samplers]
    named = itertools.product(samplers, plain)
    return [
        replace(schedule.by(sampler), name=f"{sampler_label(sampler)}, {schedule.name}")
        for sampler, schedule in named
    ] or plain


def run(arguments: Grid) -> list[Trial]:
    """Evaluate the schedules that have not been.

    Returns:
        The trials of the grid, the best one first.

    Raises:
        ValueError: an unknown bundle, a schedule that is not allowed, or a folder that cannot be
            written or is in use.
    """
    schedules = {schedule.name: schedule for schedule in schedules_of(arguments)}
    bundle = load_bundle(arguments.bundle, **arguments.models())
    check_bundle_rank(bundle, arguments.num_samples)
    with locked(arguments.out):
        return _run(arguments, schedules, bundle)


def best_path(folder: Path, num_steps: int | str) -> Path:
    """Where the best schedule for T = `num_steps` is written."""
    return folder / f"best_T{num_steps}.json"


def _run(arguments: Grid, schedules: dict[str, Schedule], bundle: Bundle) -> list[Trial]:
    path = arguments.out / f"trials_T{arguments.num_steps}.json"
    about = _about(arguments, bundle)
    stored = _stored(path)
    trials = {t["schedule"]: t for t in stored if about.items() <= t.items()}
    others = [t for t in stored if not about.items() <= t.items()]

    for name, schedule in tqdm(
        schedules.items(), desc="nat-search grid", unit="trial", disable=None
    ):
        if name in trials:
            continue
        trials[name] = about | _trial(arguments, bundle, schedule)
        write_json(path, others + list(trials.values()))

    ranked = sorted((trials[name] for name in schedules), key=lambda t: t["frechet_distance"])
    best = schedules[ranked[0]["schedule"]]
    replace(best, name=f"best {best.name}").save(best_path(arguments.out, arguments.num_steps))
    return ranked


def _about(arguments: Grid, bundle: Bundle) -> Trial:
    """What a trial depends on besides its schedule."""
    return {
        "bundle": bundle.name,
        "bundle_fingerprint": bundle.fingerprint,
        "judge": bundle.require("yardstick").name,
        "num_steps": arguments.num_steps,
        "num_samples": arguments.num_samples,
        "seed": arguments.seed,
        "dtype": bundle.dtype,
        "decoder_dtype": bundle.decoder_dtype,
    }


def _trial(arguments: Grid, bundle: Bundle, schedule: Schedule) -> Trial:
    batches = generate_batches(
        bundle,
        ScheduledPolicy(schedule),
        bundle.conditions.balanced(arguments.num_samples),
        arguments.num_steps,
        GRID.seed_of(arguments.seed),
        arguments.batch_size,
    )
    distance = frechet_of(bundle, (images for images, _ in batches))
    return {"schedule": schedule.name, "frechet_distance": distance}


def _stored(path: Path) -> list[Trial]:
    if not path.is_file():
        return []
    before = {"decoder_dtype": "float32"}  # as long as there was no other, trials did not say
    return read_json(path, "out", lambda trials: [before | trial for trial in trials])


def command(arguments: Grid) -> None:
    """Try the schedules, and show the best."""
    ranked = run(arguments)
    print(f"The best five by FD ({ranked[0]['judge']}, N = {arguments.num_samples}):")
    for trial in ranked[:5]:
        print(f"  {trial['frechet_distance']:8.2f}  {trial['schedule']}")
    print(best_path(arguments.out, arguments.num_steps))
