"""Command nat-tune: the options of a learner, tuned on the Frechet distance by Optuna."""

import inspect
import math
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.learners.algorithms import algorithm_of
from agents.learners.config import TrainConfig
from agents.runs.checkpoint import CONFIG
from agents.training.train import Training
from agents.tuning.arguments import Tune
from agents.tuning.spaces import OF_LEARNER, SPACES, Span, arguments_of, with_options
from agents.tuning.study import STUDY, load_optuna, next_trial, open_study, suggested
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import load_bundle
from nat_env.storage.claims import check_unclaimed, locked
from nat_env.storage.files import write_json

if TYPE_CHECKING:
    import optuna

BEST = "best.json"


def check(arguments: Tune) -> None:
    """Check that nothing in the search space will be refused later.

    Raises:
        ValueError: a number out of its range.
    """
    config = arguments.training
    counted = [r for r in range(1, config.rounds + 1) if _is_evaluated(config, r)]
    if arguments.scored > len(counted):
        raise ValueError(
            f"scored: got {arguments.scored}, allowed are 1 .. {len(counted)}, the evaluations of "
            f"a training of {config.budget} images after its warm-up"
        )
    for name, values in SPACES[arguments.algo].items():
        for value in (values.low, values.high) if isinstance(values, Span) else values:
            changed = with_options(config, {name: value})
            algorithm_of(changed).options(changed)


def tune(arguments: Tune) -> dict[str, Any]:
    """Make the trials that are missing.

    Returns:
        The best one, as in best.json: trial, score, options, command, and what the score is.

    Raises:
        ValueError: an unknown bundle, a folder that cannot be written, is in use or holds another
            study, or no training that came to its end.
        ImportError: Optuna is not installed.
    """
    check(arguments)
    load_optuna()
    bundle = load_bundle(arguments.training.bundle, device=arguments.device)
    if not (arguments.out / STUDY).is_file():
        check_unclaimed(arguments.out)
    with locked(arguments.out):
        return _tune(arguments, bundle)


def _tune(arguments: Tune, bundle: Bundle) -> dict[str, Any]:
    optuna = load_optuna()
    training = arguments.training
    space = {name: repr(values) for name, values in SPACES[arguments.algo].items()}
    identity = {
        "fingerprint": bundle.fingerprint, "config": training.as_json(), "space": space,
        "scored": arguments.scored, "unpruned": arguments.unpruned,
    }  # fmt: skip
    study = open_study(arguments.out, identity, usual_options(training), arguments.unpruned)
    while sum(t.state.is_finished() for t in study.trials) < arguments.trials:
        _run(arguments, study, next_trial(study, arguments.seed, arguments.unpruned))
        print(_report(study.trials[-1]), flush=True)
    if not study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
        raise ValueError(f"trials: got {arguments.trials}, none came to its end; allowed are more")
    options = arguments.fixed | study.best_params
    command = ["nat-train", arguments.preset, "--out", str(arguments.out / "best")]
    best = {
        "trial": study.best_trial.number,
        "score": study.best_value,
        "judge": bundle.require("yardstick").name,
        "num_samples": training.num_samples,
        "options": options,
        "command": shlex.join([*command, *arguments_of(options)]),
    }
    write_json(arguments.out / BEST, best)
    return best


def score(config: TrainConfig, history: list[dict[str, float]], scored: int) -> float:
    """Mean FD of the last evaluations of a training."""
    distances = [r["frechet_distance"] for r in history if _is_evaluated(config, int(r["round"]))]
    return float(np.mean(distances[-scored:]))


def _is_evaluated(config: TrainConfig, number: int) -> bool:
    """Whether a training is evaluated after this round, and the policy no longer the first one."""
    asked = number % config.eval_every == 0 or number == config.rounds
    return asked and number * config.trajectories_per_round > config.policy_rests_for


def _run(arguments: Tune, study: "optuna.Study", trial: "optuna.Trial") -> None:
    """One training, or what is left of it."""
    optuna = load_optuna()
    folder = arguments.out / f"{trial.number:03d}"
    options = suggested(trial, SPACES[arguments.algo])
    config = with_options(arguments.training, options)
    config = replace(config, out=folder, resume=(folder / CONFIG).is_file())
    reported = set(study.trials[trial.number].intermediate_values)

    def report(about: dict[str, float]) -> None:
        number = int(about["round"])
        print(
            f"  round {number} of {config.rounds}: FD {about['frechet_distance']:.3f}", flush=True
        )
        if not _is_evaluated(config, number) or number == config.rounds:
            return
        if number not in reported:  # by this training before it was stopped
            trial.report(about["frechet_distance"], number)
        if trial.should_prune():
            raise optuna.TrialPruned

    training = Training(
        config, progress=False, on_evaluation=report, goes_on="the same nat-tune goes on"
    )
    state = optuna.trial.TrialState
    try:
        value = score(config, training.run()["history"], arguments.scored)
    except optuna.TrialPruned:
        study.tell(trial, state=state.PRUNED)
        return
    except ValueError as error:  # numbers that are none, in torch's distributions for example
        trial.set_user_attr("error", str(error).splitlines()[0])
        value = math.nan
    if math.isfinite(value):
        study.tell(trial, value)
    else:
        study.tell(trial, state=state.FAIL)


def usual_options(config: TrainConfig) -> dict[str, Any]:
    """What the options of the learner's search space are when nobody says anything."""
    algorithm = algorithm_of(config)
    given, signature = algorithm.options(config), inspect.signature(algorithm.learner).parameters
    found: dict[str, Any] = {}
    for name in SPACES[config.algo]:
        option = name.removeprefix(OF_LEARNER)
        if name == option:
            found[name] = config.environments if name == "num_envs" else getattr(config, name)
        else:
            found[name] = given[option] if option in given else signature[option].default
    return found


def _report(trial: "optuna.trial.FrozenTrial") -> str:
    end = f"FD {trial.value:.3f}" if trial.value is not None else "FD is no number"
    if trial.state.name == "PRUNED":
        end = f"given up after round {trial.last_step}"
    elif "error" in trial.user_attrs:
        end = f"failed ({trial.user_attrs['error']})"
    shown = {n: f"{v:.3g}" if isinstance(v, float) else v for n, v in trial.params.items()}
    return f"trial {trial.number}: {end}; {' '.join(arguments_of(shown))}"


def command(arguments: Tune) -> None:
    """Make the trials, and show the best."""
    load_optuna().logging.set_verbosity(load_optuna().logging.WARNING)
    best = tune(arguments)
    print(
        f"Best: trial {best['trial']}, FD {best['score']:.3f} ({best['judge']}, "
        f"N = {best['num_samples']}, mean of the last {arguments.scored} evaluations); "
        f"{arguments.out / BEST}\n{best['command']}"
    )
