"""A run's policy in a folder of its own: what it takes to load it elsewhere, and nothing else."""

import shutil
from dataclasses import replace
from pathlib import Path

from agents.learners.config import TrainConfig
from agents.runs.checkpoint import (
    RESIDUAL,
    load_run_config,
    policy_file,
    run_fingerprint,
    run_token_grid,
    write_config,
)
from agents.runs.paths import with_paths
from nat_env.schedules import is_named


def copy_policy(run: Path, folder: Path, which: str = "best") -> Path:
    """Copy a policy, its configuration without paths, and its residual schedule.

    Args:
        run: the run folder, or a shared one.
        folder: where to.
        which: `best` or `last`.

    Returns:
        The file of its weights, which names it on a command line.

    Raises:
        ValueError: there is no run.
    """
    config, weights = load_run_config(run), policy_file(run, which)
    for path in (weights, run / RESIDUAL):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    write_config(folder, without_paths(config), run_fingerprint(run), run_token_grid(run))
    return folder / weights.name


def without_paths(config: TrainConfig) -> TrainConfig:
    """Where things were on this machine is of no use on another, and nobody's business."""

    def bare(path: str) -> str:
        return Path(path).name if Path(path).is_absolute() else path

    return replace(
        with_paths(config, bare),
        bundle=Path(config.bundle).name,
        residual=config.residual if is_named(config.residual) else RESIDUAL,
        **TrainConfig(Path()).of_the_call(),
    )
