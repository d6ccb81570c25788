"""Command nat-train: an adaptive decoding policy by PPO and an adversarial reward."""

import warnings
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Logger, configure

from agents.learners.algorithms import algorithm_of, steps_of_a_round
from agents.learners.config import TrainConfig
from agents.learners.factory import make_learner
from agents.learners.vec_env import GymnasiumVecEnv
from agents.parallel.gradients import share_gradients
from agents.parallel.learner import share_learner
from agents.parallel.shares import (
    check_shared,
    check_shared_reward,
    own_environment,
    own_share,
)
from agents.reports.report import summary
from agents.runs.checkpoint import (
    CONFIG,
    STATE,
    check_same_run,
    run_residual,
    save_run_config,
    update_run_config,
)
from agents.runs.learner_state import load_learner_state
from agents.runs.prompts import with_run_prompts
from agents.runs.snapshot import restore_random_states
from agents.training.callbacks import OnEvaluation, RoundCallback
from agents.training.events import forget_after, hint, quiet_writer
from agents.training.rewards import environment_reward, paying_for_passes, with_discriminator
from agents.training.tracking import start_tracking, wandb_module
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import check_bundle_rank
from nat_env.bundles.loading import load_bundle
from nat_env.parallel.launch import started
from nat_env.parallel.processes import ALONE, Processes
from nat_env.seeds import TRAINING
from nat_env.storage.claims import check_unclaimed, locked
from nat_env.storage.files import check_apart, write_json
from nat_env.storage.state import load_state
from nat_env.vector_env import NATDecodeVectorEnv
from nat_env.wrappers.adversarial import AdversarialReward


class Training:
    """A training run: environment, reward model, learner, and their state on disk.

    It holds its folder, so that no other one writes there, until `run` or `close` ends. Of several
    processes that train together each has one; the main one's holds the folder and writes.
    """

    def __init__(
        self,
        config: TrainConfig,
        progress: bool = True,
        on_evaluation: OnEvaluation = lambda about: None,
        goes_on: str | None = None,
        processes: Processes = ALONE,
    ) -> None:
        """Set up a new run, or take up the one in `config.out` with `config.resume`.

        Args:
            config: of the run.
            progress: whether to show it.
            on_evaluation: see `RoundCallback`.
            goes_on: what to tell a user whose disk is full about how to go on; by default the
                nat-train command.
            processes: the processes that train together; the numbers of `config` are those of all.

        Raises:
            ValueError: what several processes cannot do together, a real folder in `config.out` or
                around it, an unknown bundle, too few `num_samples` for its judge, a folder that
                cannot be written or that another training holds, one that holds a run already or
                something else (without `resume`), one of another bundle or configuration (with), a
                budget below what is done, or `wandb` without its package or its login.
            OSError: the disk is full or read-only; a new run has not taken the folder.
        """
        self.goes_on = goes_on
        self.processes = processes
        with ExitStack() as held:
            self._set_up(config, progress and processes.is_main, on_evaluation, held)
            self._held = held.pop_all()

    def _set_up(
        self,
        config: TrainConfig,
        progress: bool,
        on_evaluation: OnEvaluation,
        held: ExitStack,
    ) -> None:
        real_folder = Path(config.real_folder) if config.real_folder else None
        check_apart(out=config.out, real_folder=real_folder)
        algorithm, processes = algorithm_of(config), self.processes
        check_shared(config, algorithm, processes)
        self.config, self.own = config, own_share(config, algorithm, processes)
        """Of all processes, and of this one."""
        wandb, self.before = wandb_module(config) if processes.is_main else None, None
        """The run's configuration until now, where it goes on."""
        bundle = load_bundle(config.bundle, **self.own.models())
        if config.eval_every:
            check_bundle_rank(bundle, config.num_samples)
        state = self._taken_up(bundle, held) if config.resume else None
        if not config.resume and processes.is_main:
            _check_new(config.out)
        bundle = with_run_prompts(bundle, config)
        if config.eval_every and bundle.yardstick is None:
            raise ValueError(
                f"eval_every: got {config.eval_every}, allowed with these prompts is 0: the "
                "bundle's judge knows its own conditions alone"
            )
        residual = run_residual(config.out, config) if config.resume else config.residual
        self.env = self.decoder = NATDecodeVectorEnv(
            self.own.environments,
            bundle,
            config.num_steps,
            observation=_observation(config, bundle),
            residual=residual,
            raw_scale=config.raw_scale,
            action_smoothing=config.action_smoothing,
            quantities=config.quantities,
            reward_fn=environment_reward(config, bundle),
            observations_kept=steps_of_a_round(config) + 1,
            aligned=True,
            group_size=config.group_size,
        )
        check_shared_reward(self.decoder.reward_fn, config.reward, processes)
        if processes.is_main and (stuck := self.decoder.action_map.out_of_reach):
            warnings.warn(
                f"residual: {config.residual!r} has an end of the range, which no correction "
                f"leaves, for {', '.join(stuck)}: leave it out of quantities, or give it 0.01",
                stacklevel=2,
            )
        if config.reward == "adversarial":
            self.env = with_discriminator(self.own, self.decoder, processes)
        paying = paying_for_passes(config, self.env)
        adapter = GymnasiumVecEnv(paying, copy_observations=False)
        self.model = make_learner(self.own, adapter, bundle)
        adapter.seed(TRAINING.seed_of(config.seed, processes.index * self.own.environments))
        processes.gathered("accepted")  # by all: where one of them fails, nothing has been written
        if processes.is_main:
            self._begin(bundle, state, wandb, held)
        else:
            self.model.set_logger(Logger(None, []))
        if algorithm.alone == "":
            share_learner(self.model, processes)  # type: ignore[arg-type]
        if isinstance(self.env, AdversarialReward):
            share_gradients(self.env.model.discriminator, processes)
        self.callback = RoundCallback(config, self.env, progress, on_evaluation, processes)
        if state is not None:
            self._restore(state)

    def _taken_up(self, bundle: Bundle, held: ExitStack) -> dict[str, Any] | None:
        """The state of the run that goes on.

        Without one it was stopped before its first checkpoint, and goes on from the start.
        """
        config = self.config
        self.before = check_same_run(config.out, config, bundle)
        if self.processes.is_main:
            held.enter_context(locked(config.out))
        state = load_state(config.out / STATE) if (config.out / STATE).is_file() else None
        _check_longer(config, state)
        return state

    def _begin(
        self, bundle: Bundle, state: dict[str, Any] | None, wandb: Any, held: ExitStack
    ) -> None:
        """Take the folder and write what a run begins with: now all options have been accepted."""
        config = self.config
        if not config.resume:
            held.enter_context(locked(config.out))
            _check_new(config.out)  # another may have come first
        if wandb:
            held.callback(start_tracking(wandb, config).finish)
        with hint(config.out, self.goes_on or "the run has not begun"):
            events = config.out / "tensorboard"
            if state is not None:
                rounds = int(state["callback"]["rounds"])
                forget_after(events, rounds * config.trajectories_per_round)
            self.model.set_logger(configure(str(events), ["tensorboard"]))
            if config.resume:
                update_run_config(config.out, config, bundle)
            else:  # last, so that a folder where something failed is not taken
                save_run_config(config.out, config, bundle)

    @property
    def total_timesteps(self) -> int:
        """Environment steps of the whole training, on this process."""
        config = self.own
        return config.rounds * config.trajectories_per_round * config.num_steps

    def run(self) -> dict[str, Any]:
        """Train to the end; gives and writes the results (`results.json`), the main process's.

        Raises:
            OSError: the disk is full or read-only; the state of the run is whole.
        """
        self._tell()
        left = self.total_timesteps - self.model.num_timesteps
        model: Any = self.model
        resumed = self.goes_on or f"nat-train --resume --out {self.config.out} goes on"
        with self._held, hint(self.config.out, resumed), quiet_writer():
            try:
                if left > 0:
                    # log_interval: what belongs to a round is written by the callback, at its end
                    model.learn(left, self.callback, log_interval=None, reset_num_timesteps=False)
            except BaseException:
                with suppress(OSError):  # what it failed for, perhaps: the state before is whole
                    self.callback.write_state()
                raise
            finally:
                with suppress(OSError):  # told already, by who wrote
                    model.logger.close()
            evaluated = bool(self.callback.history)
            results = {
                "bundle": self.config.bundle,
                "num_steps": self.config.num_steps,
                "judge": self.decoder.bundle.judge_name,
                "num_samples": self.config.num_samples,
                "best_frechet_distance": self.callback.best_distance if evaluated else None,
                "history": self.callback.history,
            }
            if self.processes.is_main:
                write_json(self.config.out / "results.json", results)
        return results

    def _tell(self) -> None:
        """What of the budget is not as one might think."""
        config, said = self.config, []
        whole = config.rounds * config.trajectories_per_round
        if whole != config.budget:
            rounds = f"{config.rounds} rounds of {config.trajectories_per_round}"
            said.append(f"budget: {config.budget} images are {rounds}, {whole} images")
        if self.before and self.before.rounds != config.rounds:
            said.append(
                f"budget: {config.budget} images in place of {self.before.budget}; learning rate "
                "and sigma, which go by the share that is done, go by the new one from here"
            )
        if self.callback.progress and said:
            print("\n".join(said), flush=True)

    def close(self) -> None:
        """Give the folder free; for a training that is not run."""
        self._held.close()

    def _restore(self, state: dict[str, Any]) -> None:
        """Go on from the state of all processes, which may have been others in number."""
        model, learner = self.model, dict(state["learner"])
        learner["timesteps"] = int(learner["timesteps"]) // self.processes.count
        load_learner_state(model, learner)
        self.callback.load_reward_state(state["reward"])
        adapter = model.get_env()
        assert adapter is not None
        adapter.reset()  # the first reset takes the seed: a later one would start all over
        model._last_obs = self.decoder.load_state_dict(
            own_environment(state["environment"], self.processes)
        )
        model._last_episode_starts = np.ones(self.own.environments, bool)  # type: ignore[attr-defined]
        model._update_current_progress_remaining(model.num_timesteps, self.total_timesteps)
        self.callback.load_state_dict(state["callback"])
        restore_random_states(state["random"], self.decoder.bundle.device)


def _check_longer(config: TrainConfig, state: dict[str, Any] | None) -> None:
    done = int(state["callback"]["rounds"]) if state else 0
    if config.rounds < done:
        raise ValueError(
            f"budget: got {config.budget}, allowed is at least what the run in "
            f"{str(config.out)!r} has done: {done * config.trajectories_per_round}"
        )


def _observation(config: TrainConfig, bundle: Bundle) -> str:
    """The learner's; on an accelerator features stay there, unless a folder is to hold them."""
    observation = algorithm_of(config).observation
    if observation == "features":
        observation = config.observation
    stay = bundle.device.type != "cpu" and config.rollout_folder is None
    return "handles" if observation == "features" and stay else observation


def _check_new(folder: Path) -> None:
    if (folder / CONFIG).exists():
        raise ValueError(f"out: {str(folder)!r} holds a run; --resume goes on with it")
    check_unclaimed(folder)


def command(config: TrainConfig) -> None:
    """Train, alone or with the other processes of a launch, and say what came out."""
    with started(config.device) as processes:
        results = Training(config, processes=processes).run()
    if not processes.is_main:
        return
    if not results["history"]:
        print(f"trained without evaluations; run in {config.out}")
        return
    came_out = summary(results["history"], results["judge"], results["num_samples"])
    print(f"{came_out}; run in {config.out}")
