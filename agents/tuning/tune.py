"""Command nat-tune: the options of a learner, tuned on the Frechet distance by Optuna."""

import inspect
import json
import math
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import tyro

from agents.learners.algorithms import ALGORITHMS, algorithm_of
from agents.learners.config import PRESETS, TrainConfig
from agents.runs.checkpoint import CONFIG
from agents.training.train import Training
from agents.tuning.spaces import OF_LEARNER, SPACES, Span, arguments_of, with_options
from agents.tuning.study import load_optuna, next_trial, open_study, suggested
from nat_env.bundles.bundle import load_bundle
from nat_env.commands.parsing import parse
from nat_env.storage.files import require_writable_folder, write_json

if TYPE_CHECKING:
    import optuna

BEST = "best.json"


@dataclass(frozen=True)
class Arguments:
    """Find good options of a learner for nat-train, by short trainings.

    The first one has the usual options. A training whose best Frechet distance so far is above
    the median of the others' at that point is given up early. Writes a run folder for each
    training, Optuna's journal study.log, and best.json with the best options and the nat-train
    command that takes them. The same command goes on where it stopped; with more --trials it goes
    further. One at a time in a folder.
    """

    preset: Annotated[str, tyro.conf.Positional]
    """Of nat-train: fashion or digits."""
    out: Path
    """Folder of the study."""
    bundle: str | None = None
    """A shipped bundle's name or a folder; by default that of the preset."""
    algo: str = "ppo"
    """Learner, see `nat-train --algo`; what is varied is in agents/spaces.py."""
    trials: int = 20
    """Trainings of the whole study, with those given up."""
    trajectories: int | None = None
    """Episodes of a training; by default half of the preset's."""
    num_steps: int = 4
    """T, decoding steps."""
    eval_every: int = 5
    """Rounds between the evaluations of a training."""
    scored: int = 3
    """The mean FD of so many evaluations at the end is a training's score: the best of all would
    be a lucky one."""
    unpruned: int = 5
    """Trainings that are not given up, with options drawn at random, before later ones are."""
    seed: int = 0
    """Of the options drawn, and of all trainings."""
    threads: int = 2
    """Torch threads; one when another program is busy beside it."""
    device: str = "cpu"
    """A torch device."""

    def __post_init__(self) -> None:
        """Check the numbers, and that nothing in the search space will be refused later.

        Raises:
            ValueError: an unknown preset or learner, or a number out of its range.
        """
        if self.preset not in PRESETS or self.preset == "paper":
            allowed = sorted(PRESETS.keys() - {"paper"})
            raise ValueError(f"preset: got {self.preset!r}, allowed are {allowed}")
        if self.algo not in ALGORITHMS:
            raise ValueError(f"algo: got {self.algo!r}, allowed are {list(ALGORITHMS)}")
        for name in ("trials", "trajectories", "scored", "unpruned"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}: got {value}, allowed is >= 1")
        config = self.training
        counted = [r for r in range(1, config.rounds + 1) if _is_evaluated(config, r)]
        if self.scored > len(counted):
            raise ValueError(
                f"scored: got {self.scored}, allowed are 1 .. {len(counted)}, the evaluations of a "
                f"training of {config.trajectories} trajectories after its warm-up"
            )
        for name, values in SPACES[self.algo].items():
            for value in (values.low, values.high) if isinstance(values, Span) else values:
                changed = with_options(config, {name: value})
                algorithm_of(changed).options(changed)

    @property
    def fixed(self) -> dict[str, Any]:
        """Options of nat-train that no trial varies and that are not the preset's."""
        bundle = self.bundle or PRESETS[self.preset][1].bundle
        return {"algo": self.algo, "num_steps": self.num_steps, "bundle": bundle}

    @property
    def training(self) -> TrainConfig:
        """What the trials vary."""
        preset = PRESETS[self.preset][1]
        trajectories = self.trajectories or preset.trajectories // 2
        return replace(
            preset, out=self.out, trajectories=trajectories, eval_every=self.eval_every,
            seed=self.seed, threads=self.threads, device=self.device, **self.fixed,
        )  # fmt: skip


def tune(arguments: Arguments) -> dict[str, Any]:
    """Make the trials that are missing.

    Returns:
        The best one, as in best.json: trial, score, options, command, and what the score is.

    Raises:
        ValueError: an unknown bundle, a folder that cannot be written or holds another study, or
            no training that came to its end.
        ImportError: Optuna is not installed.
    """
    optuna = load_optuna()
    bundle = load_bundle(arguments.training.bundle, device=arguments.device)
    require_writable_folder(arguments.out)
    training = arguments.training
    space = {name: repr(values) for name, values in SPACES[arguments.algo].items()}
    identity = {
        "fingerprint": bundle.fingerprint, "config": training.as_json(), "space": space,
        "scored": arguments.scored, "unpruned": arguments.unpruned,
    }  # fmt: skip
    identity = json.loads(json.dumps(identity))
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
        "judge": bundle.judge_name,
        "num_samples": training.eval_samples,
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


def _run(arguments: Arguments, study: "optuna.Study", trial: "optuna.Trial") -> None:
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

    training = Training(config, progress=False, on_evaluation=report)
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


def main() -> None:
    """Entry point."""
    try:
        arguments = parse(Arguments, "nat-tune")
        torch.set_num_threads(arguments.threads)
        optuna = load_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        best = tune(arguments)
    except (ValueError, ImportError) as error:
        raise SystemExit(f"nat-tune: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("nat-tune: interrupted; the same command goes on") from None
    print(
        f"Best: trial {best['trial']}, FD {best['score']:.3f} ({best['judge']}, "
        f"N = {best['num_samples']}, mean of the last {arguments.scored} evaluations); "
        f"{arguments.out / BEST}\n{best['command']}"
    )


if __name__ == "__main__":
    main()
