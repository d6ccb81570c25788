"""Ways to a policy, by name: what a comparison's methods do with their budget of images."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agents.learners.config import TrainConfig
from agents.runs.checkpoint import CONFIG, load_run_config
from agents.search import grid, search
from agents.search.arguments import Arguments, Grid
from agents.training.train import Training
from eval.studies.arguments import Comparison
from eval.studies.trials import Method, Trial
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import load_bundle
from nat_env.storage.claims import check_same

_GRID = {"guidance_slopes": (0.5, 1.0), "sampling_temperatures": (0.8, 1.0)}

GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "grid": _GRID | {"remask_slopes": (1.0, 2.0, 4.0, 8.0)},
    "halton": {
        "samplers": ("halton",),
        "remask_slopes": (1.0,),
        "guidance_slopes": (0.25, 0.5, 1.0, 2.0),
        "sampling_temperatures": (0.7, 0.8, 0.9, 1.0),
    },
    "entropy-bound": _GRID
    | {
        "samplers": tuple(f"entropy-bound({gamma})" for gamma in (2, 8, 24, 64)),
        "remask_slopes": (1.0,),
    },
    "klass": _GRID
    | {
        "samplers": tuple(f"klass({c}, {d})" for c in (0.3, 0.6) for d in (0.1, 1)),
        "remask_slopes": (1.0,),
    },
    "remdm": _GRID | {"samplers": ("remdm(0.1)", "remdm(0.3)"), "remask_slopes": (1.0, 4.0)},
}
"""What a hand would try, by method: lambda, k and tau_1 of the heuristic, which is one of these, or
a sampler's numbers, k and tau_1."""

GRID_TRIALS = math.prod(len(values) for values in GRIDS["grid"].values())
"""Of each grid."""

TUNING = 4
"""Of a training that starts from the best of a grid, the grid has one in so many images."""


def score_samples(bundle: Bundle) -> int:
    """Images of a search's score: more than an embedding by the bundle's judge has numbers."""
    return max(256, 2 * bundle.require("yardstick").statistics.mean.size)


def schedule_search(about: str, name: str) -> Method:
    """A method that is nat-search."""

    def prepare(trial: Trial) -> int:
        arguments = trial.arguments
        found = search.search(
            Arguments(
                name,  # type: ignore[arg-type]
                out=trial.folder,
                bundle=arguments.bundle,
                num_steps=trial.num_steps,
                budget=arguments.trial_budget,
                num_samples=score_samples(load_bundle(arguments.bundle, **arguments.models())),
                seed=trial.seed,
                **arguments.computation(),
            )
        )
        return found.images

    return Method(about, prepare, search.SCHEDULE)


def hand_grid(about: str, name: str = "grid") -> Method:
    """A method that is nat-search grid, each trial with its part of the budget."""

    def prepare(trial: Trial) -> int:
        return _try(trial, name, trial.arguments.trial_budget, trial.folder)

    return Method(about, prepare, grid.best_path(Path(), "{num_steps}").name)


def _try(trial: Trial, name: str, budget: int, folder: Path) -> int:
    """Try the schedules of one of `GRIDS`; gives the images that it took."""
    asked = Grid(
        out=folder,
        bundle=trial.arguments.bundle,
        num_steps=trial.num_steps,
        num_samples=budget // GRID_TRIALS,
        seed=trial.seed,
        **GRIDS[name],
        **trial.arguments.computation(),
    )
    return len(grid.run(asked)) * asked.num_samples


def training(
    about: str,
    discriminator: Mapping[str, Any] | None = None,
    start: str | None = None,
    **changes: Any,
) -> Method:
    """A method that is nat-train with some options, and some of the discriminator's, changed.

    Args:
        about: what it is, for reports.
        discriminator: options changed.
        start: one of `GRIDS`, on which a part of the budget goes first: what is learned is a
            correction of the best of it, under its sampler.
        changes: options of nat-train.
    """

    def configured(trial: Trial) -> TrainConfig:
        changed = dataclasses.replace(trial.arguments.preset.discriminator, **discriminator or {})
        if start is None:
            return training_config(trial, discriminator=changed, **changes)
        return training_config(
            trial,
            discriminator=changed,
            residual=str(grid.best_path(trial.folder / start, trial.num_steps)),
            budget=trial.arguments.trial_budget - _tried(trial),
            **changes,
        )

    def prepare(trial: Trial) -> int:
        config, tried = configured(trial), 0
        if start is not None:
            tried = _try(trial, start, _tried(trial), trial.folder / start)
        goes_on = "the same nat-study goes on"
        Training(config, trial.arguments.progress, goes_on=goes_on).run()
        return tried + config.rounds * config.trajectories_per_round

    return Method(about, prepare, "last.safetensors", configured)


def _tried(trial: Trial) -> int:
    """Images of the grid that a training starts from."""
    return trial.arguments.trial_budget // TUNING


def training_config(trial: Trial, **changes: Any) -> TrainConfig:
    """The bundle's preset with the trial's T, seed, budget and folder, and some options changed.

    Raises:
        ValueError: the folder holds a run of another budget.
    """
    of_the_trial = {
        "out": trial.folder,
        "num_steps": trial.num_steps,
        "budget": trial.arguments.trial_budget,
        "seed": trial.seed,
        "resume": (trial.folder / CONFIG).is_file(),
    }
    options = trial.arguments.training() | of_the_trial | changes
    config = dataclasses.replace(trial.arguments.preset, **options)
    if config.resume:  # nat-train would make it longer
        before = {"images": load_run_config(trial.folder).budget}
        check_same(before, {"images": config.budget}, f"out: {str(trial.folder)!r}")
    return config


METHODS: dict[str, Method] = {
    "grid": hand_grid(f"the best of {GRID_TRIALS} heuristics by FD"),
    "halton": hand_grid(f"Halton order, the best of {GRID_TRIALS} by FD", "halton"),
    "entropy-bound": hand_grid(f"EB-Sampler, the best of {GRID_TRIALS} by FD", "entropy-bound"),
    "klass": hand_grid(f"KLASS, the best of {GRID_TRIALS} by FD", "klass"),
    "remdm": hand_grid(f"ReMDM, the best of {GRID_TRIALS} by FD", "remdm"),
    "autonat": schedule_search("finite differences of the FD (AutoNAT)", "autonat"),
    "cma": schedule_search("CMA-ES on the FD", "cma"),
    "not-adaptive": training("PPO, discriminator, blind to the sample", adaptive=False),
    "adaptive": training("PPO, discriminator (AdaNAT)"),
    "not-adaptive-map": training(
        "PPO, by token too, blind to the sample", residual="confidence-map", adaptive=False
    ),
    "adaptive-map": training("PPO, by token too", residual="confidence-map"),
    "not-adaptive-from-grid": training(
        "the best of a grid, then PPO, blind to the sample", start="grid", adaptive=False
    ),
    "adaptive-from-grid": training("the best of a grid, then PPO", start="grid"),
    "adaptive-from-halton": training("the best of Halton order, then PPO by it", start="halton"),
    "adaptive-from-remdm": training("the best of ReMDM, then PPO by it", start="remdm"),
    "adaptive-scratch": training(
        "PPO, discriminator that shares no network with a judge",
        {"trunk": "scratch", "widths": (32, 64, 128)},
    ),
    "not-adaptive-frechet": training(
        "PPO, Frechet reward, one configuration for all",
        reward="frechet",
        adaptive=False,
        shared_noise=True,
    ),
    "adaptive-frechet": training("PPO, Frechet reward", reward="frechet"),
    "adaptive-pretrained": training("PPO, the judge's log-likelihood", reward="judge"),
}


def check_budget(arguments: Comparison, methods: Iterable[str]) -> None:
    """Refuse, before any training, a budget of which a search could not score one schedule.

    Raises:
        ValueError: it is too small, or the bundle has no judge or is none.
    """
    bundle = load_bundle(arguments.bundle, **arguments.models())
    needed = {name: score_samples(bundle) for name in ("autonat", "cma")}
    rank = bundle.require("yardstick").statistics.mean.size + 1
    needed |= dict.fromkeys(GRIDS, GRID_TRIALS * rank)
    started = ("adaptive-from-", "not-adaptive-from-")
    needed |= {name: TUNING * GRID_TRIALS * rank for name in METHODS if name.startswith(started)}
    for name in needed.keys() & set(methods):
        if arguments.trial_budget < needed[name]:
            raise ValueError(
                f"budget: got {arguments.trial_budget}, allowed with the method {name} is >= "
                f"{needed[name]}; spend more, or name other methods"
            )
