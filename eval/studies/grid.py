"""Hand-tuning the heuristic schedule: a grid over (lambda, k, tau_1), scored by Frechet distance.

The best schedule that a patient person would find, which a learned policy has to be better than.

    python -m eval.studies.grid --bundle fashion --num-steps 4 --out runs/grid
"""

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from eval.evaluation.evaluate import check_numbers, evaluate
from eval.judges.judge import bundle_judge
from eval.judges.references import reference
from nat_env.bundles.bundle import Bundle, load_bundle
from nat_env.commands.computation import Computation
from nat_env.commands.parsing import parse
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import Schedule, heuristic_schedule
from nat_env.seeds import GRID
from nat_env.storage.files import require_writable_folder, write_json

Trial = dict[str, Any]


@dataclass(frozen=True)
class Arguments(Computation):
    """Find the best heuristic schedule on a grid, by FD under the bundle's judge.

    Writes trials_T.json after every trial, then the best schedule as best_T.json, which nat-eval
    and nat-sample take as a policy. Called again, it tries only what is missing.
    """

    out: Path
    """Folder for the trials and the best schedule."""
    bundle: str = "fashion"
    """A shipped bundle's name or a folder."""
    num_steps: int = 4
    """T, decoding steps."""
    num_samples: int = 1000
    """Images of a trial."""
    remask_slopes: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    """lambda: tau_2 = lambda (T - t) / T."""
    guidance_slopes: tuple[float, ...] = (0.5, 1.0, 2.0)
    """k: w = k (t + 1) / T."""
    sampling_temperatures: tuple[float, ...] = (0.6, 0.8, 1.0)
    """tau_1, at all steps."""
    seed: int = 0
    """No sample of nat-eval's, whatever its seeds: the best is not chosen on what judges it."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: a number out of its range, or no value for a parameter of the schedule.
        """
        super().__post_init__()
        check_numbers(self.num_samples, self.seed, self.batch_size, GRID)
        for name in ("remask_slopes", "guidance_slopes", "sampling_temperatures"):
            if not getattr(self, name):
                raise ValueError(f"{name}: got none, allowed is at least one")

    @property
    def schedules(self) -> list[Schedule]:
        """One for each point of the grid."""
        grid = itertools.product(
            self.remask_slopes, self.guidance_slopes, self.sampling_temperatures
        )
        return [heuristic_schedule(self.num_steps, *point) for point in grid]


def run(arguments: Arguments) -> list[Trial]:
    """Evaluate the schedules that have not been.

    Returns:
        The trials of the grid, the best one first.

    Raises:
        ValueError: an unknown bundle, a schedule that is not allowed, or a folder that cannot be
            written.
    """
    schedules = {schedule.name: schedule for schedule in arguments.schedules}
    bundle = load_bundle(arguments.bundle, arguments.dtype, arguments.device)
    require_writable_folder(arguments.out)
    path = arguments.out / f"trials_T{arguments.num_steps}.json"
    about = _about(arguments, bundle)
    stored = _stored(path)
    trials = {t["schedule"]: t for t in stored if about.items() <= t.items()}
    others = [t for t in stored if not about.items() <= t.items()]

    for name, schedule in tqdm(
        schedules.items(), desc="eval.studies.grid", unit="trial", disable=None
    ):
        if name in trials:
            continue
        trials[name] = about | _trial(arguments, bundle, schedule)
        write_json(path, others + list(trials.values()))

    ranked = sorted((trials[name] for name in schedules), key=lambda t: t["frechet_distance"])
    best = schedules[ranked[0]["schedule"]]
    replace(best, name=f"best {best.name}").save(best_path(arguments.out, arguments.num_steps))
    return ranked


def best_path(folder: Path, num_steps: int) -> Path:
    """Where the best schedule for T = `num_steps` is written."""
    return folder / f"best_T{num_steps}.json"


def _about(arguments: Arguments, bundle: Bundle) -> Trial:
    """What a trial depends on besides its schedule."""
    return {
        "bundle": bundle.name,
        "bundle_fingerprint": bundle.fingerprint,
        "judge": bundle_judge(bundle).name,
        "num_steps": arguments.num_steps,
        "num_samples": arguments.num_samples,
        "seed": arguments.seed,
        "dtype": bundle.dtype,
    }


def _trial(arguments: Arguments, bundle: Bundle, schedule: Schedule) -> Trial:
    judged = reference(bundle, bundle_judge(bundle))
    result = evaluate(
        bundle,
        ScheduledPolicy(schedule),
        arguments.num_steps,
        arguments.num_samples,
        arguments.seed,
        [judged],
        arguments.batch_size,
        seeds=GRID,
    )
    return {
        "schedule": schedule.name,
        "frechet_distance": result.frechet_distances[judged.judge.name],
        "class_accuracy": result.class_accuracy,
        "seconds": result.seconds,
    }


def _stored(path: Path) -> list[Trial]:
    if not path.is_file():
        return []
    try:
        return [dict(trial) for trial in json.loads(path.read_text(encoding="utf-8"))]
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise ValueError(f"out: {path} is damaged ({error!r}); move it away") from error


def main() -> None:
    """Entry point."""
    try:
        arguments = parse(Arguments, "python -m eval.studies.grid")
        torch.set_num_threads(arguments.threads)
        ranked = run(arguments)
    except ValueError as error:
        raise SystemExit(f"eval.studies.grid: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("eval.studies.grid: interrupted; the same command goes on") from None
    print(f"The best five by FD ({ranked[0]['judge']}, N = {arguments.num_samples}):")
    for trial in ranked[:5]:
        print(f"  {trial['frechet_distance']:8.2f}  {trial['schedule']}")
    print(best_path(arguments.out, arguments.num_steps))


if __name__ == "__main__":
    main()
