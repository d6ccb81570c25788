"""A study of Optuna's in a folder: it goes on as if it had never been stopped."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.tuning.spaces import Space, Span
from nat_env.commands.extras import missing_extra
from nat_env.storage.claims import check_same

if TYPE_CHECKING:
    import optuna

STUDY = "study.log"


def load_optuna() -> Any:
    """The package, that only the extra `tune` installs.

    Raises:
        ImportError: it is not there.
    """
    try:
        import optuna
    except ImportError as error:
        raise missing_extra("nat-tune needs optuna", "tune") from error
    return optuna


def open_study(
    folder: Path, identity: dict[str, Any], first: dict[str, Any], unpruned: int
) -> "optuna.Study":
    """The study in `folder`, or a new one, which minimises; the pruner is the median's of Optuna.

    Args:
        folder: of its journal.
        identity: JSON values that all its trials share.
        first: options of its first trial.
        unpruned: trials that are not given up.

    Raises:
        ValueError: it is another study.
    """
    optuna = load_optuna()
    _drop_half_a_line(folder / STUDY)
    backend = optuna.storages.journal.JournalFileBackend(str(folder / STUDY))
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name="nat-tune",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=unpruned),
        load_if_exists=True,
    )
    if "identity" not in study.user_attrs:
        if not study.trials:  # else it was stopped between these two lines
            study.enqueue_trial(first)
        study.set_user_attr("identity", identity)
    check_same(study.user_attrs["identity"], identity, f"out: {str(folder)!r}")
    return study


def _drop_half_a_line(path: Path) -> None:
    """Cut off what a full disk or a power cut has left of a line: the next would be added to it.

    What it said, such as a distance, is said again when its trial goes on.
    """
    if not path.is_file():
        return
    text = path.read_bytes()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        os.truncate(path, whole)


def next_trial(study: "optuna.Study", seed: int, random_trials: int) -> "optuna.Trial":
    """The trial that was stopped, or a new one.

    What it draws depends on the trials before it alone: a study that was stopped and one that was
    not are the same.

    Args:
        study: of which no other process runs a trial.
        seed: of the options drawn.
        random_trials: that many before the sampler learns from them.
    """
    optuna = load_optuna()
    running = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    ended = sum(trial.state.is_finished() for trial in study.trials)
    words = np.random.SeedSequence([seed, ended]).generate_state(1)
    study.sampler = optuna.samplers.TPESampler(seed=int(words[0]), n_startup_trials=random_trials)
    # Optuna has no other way to go on with a trial of a process that has ended.
    return optuna.trial.Trial(study, running[0]._trial_id) if running else study.ask()


def suggested(trial: "optuna.Trial", space: Space) -> dict[str, Any]:
    """A value for each option of `space`."""
    return {name: _value(trial, name, values) for name, values in space.items()}


def _value(trial: "optuna.Trial", name: str, values: Span | tuple[Any, ...]) -> Any:
    if not isinstance(values, Span):
        return trial.suggest_categorical(name, values)
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(name, values.low, values.high, log=values.log)
    return trial.suggest_float(name, values.low, values.high, log=values.log)
