"""What happens between rollouts: discriminator, logging, evaluation, checkpoints."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Image
from tqdm import tqdm

from agents.learners.config import TrainConfig
from agents.learners.factory import live_policy
from agents.learners.trained import ExploringPolicy
from agents.parallel.shares import whole_environment
from agents.reports.charts import EVALUATION_TAGS, hyperparameters, write_layout
from agents.reports.report import write_report
from agents.runs.checkpoint import STATE, save_policy
from agents.runs.learner_state import learner_state
from agents.runs.snapshot import on_host, random_states
from agents.runs.validation import SHEET, THUMBNAIL, at_most, validate_together
from agents.training.fresh import fresh_conditions, fresh_images
from agents.training.recording import Steps, quantity_scalars, reward_scalars, whole_steps
from nat_env.parallel.processes import ALONE, Processes
from nat_env.render import image_grid, thumbnail_scale
from nat_env.rewards.protocol import restore_state, state_of
from nat_env.storage.files import written_aside
from nat_env.storage.state import save_state
from nat_env.vector_env import NATDecodeVectorEnv
from nat_env.wrappers.adversarial import AdversarialReward

OnEvaluation = Callable[[dict[str, float]], None]
"""Called with round, trajectories and `Validation.scores` after each evaluation; an exception in it
ends the training."""


class RoundCallback(BaseCallback):
    """One round: rollout, discriminator, policy update; then evaluation and checkpoint.

    Work that belongs to the end of a round is done when the next rollout starts, or when training
    ends: then the policy has been updated, and a saved state is one that an unbroken run also
    passes through.

    Of several processes each has one; the main one's writes.
    """

    def __init__(
        self,
        config: TrainConfig,
        env: NATDecodeVectorEnv | AdversarialReward,
        progress: bool = True,
        on_evaluation: OnEvaluation = lambda about: None,
        processes: Processes = ALONE,
    ) -> None:
        """Serve a training of `config`, whose numbers are those of all `processes`, on `env`."""
        super().__init__()
        self.config = config
        self.processes = processes
        self.decoder = env.decoder if isinstance(env, AdversarialReward) else env
        """The decoding environment under the wrapper."""
        self.adversary = env if isinstance(env, AdversarialReward) else None
        """The discriminator, where the reward is one."""
        self.progress = progress
        self.on_evaluation = on_evaluation
        self.rounds = 0
        self.best_distance = float("inf")
        self.history: list[dict[str, float]] = []
        """One entry per evaluation: round, trajectories, and `Validation.scores`."""
        self.seconds = 0.0
        """Of training so far, evaluations included, interruptions not."""
        self._pending = False
        self._steps: Steps = []
        self._passes: list[int] = []
        self._bar: tqdm | None = None
        self._clock = self._counted = self._written = time.perf_counter()
        self._unwritten: dict[str, Any] | None = None
        """The state at the end of the latest round, where the file has an earlier one."""

    def state_dict(self) -> dict[str, Any]:
        """Counters and results so far."""
        return {
            "rounds": self.rounds,
            "best": self.best_distance,
            "history": list(self.history),
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`."""
        self.rounds = int(state["rounds"])
        self.best_distance = float(state["best"])
        self.history = list(state["history"])
        self.seconds = float(state["seconds"])

    def load_reward_state(self, state: dict[str, Any]) -> None:
        """Restore what a checkpoint holds of a reward that learns or remembers."""
        restore_state(self._reward, state)

    @property
    def _reward(self) -> Any:
        return self.decoder.reward_fn if self.adversary is None else self.adversary.model

    @property
    def trajectories(self) -> int:
        """Of the rounds so far."""
        return self.rounds * self.config.trajectories_per_round

    def _on_training_start(self) -> None:
        self._counted = time.perf_counter()
        self._bar = tqdm(
            total=self.config.rounds,
            initial=self.rounds,
            desc="nat-train",
            unit="round",
            disable=None if self.progress else True,
        )
        if not self.rounds:
            self.logger.record("hyperparameters", hyperparameters(self.config))
            self._conclude(evaluate=self.config.eval_every > 0 and not self.history)

    def _on_rollout_start(self) -> None:
        self._finish_round()
        self._steps, self._passes, self._open = [], [], self._masked()
        self._clock = time.perf_counter()

    def _on_step(self) -> bool:
        actions = self.locals.get("clipped_actions", self.locals["actions"])
        decided = np.where(self._open[:, None], actions, np.nan)
        self._steps.append((decided, self.locals["rewards"]))
        self._open = self._masked()
        self._passes += [i["passes"] for i in self.locals.get("infos", ()) if "passes" in i]
        return True

    def _masked(self) -> np.ndarray:
        """Which rows have masked tokens [num_envs]: what is said to others has no effect."""
        return (self.decoder.masked > 0).numpy()

    def _on_rollout_end(self) -> None:
        self._record_time("rollout")
        self._record_rollout()
        if not self.config.fresh_samples:
            self._update_discriminator()
        self._pending = True

    def _on_training_end(self) -> None:
        self._finish_round()
        if self._bar is not None:
            self._bar.close()

    def _finish_round(self) -> None:
        if not self._pending:
            return
        self._pending = False
        self._record_time("policy")
        if self.config.fresh_samples and self.adversary is not None:
            self._update_on_fresh_samples()
        self.rounds += 1
        every, last = self.config.eval_every, self.rounds == self.config.rounds
        self._conclude(every > 0 and (self.rounds % every == 0 or last))
        if self._bar is not None:
            self._bar.update()

    def _conclude(self, evaluate: bool) -> None:
        if evaluate:
            self._evaluate()
        elif not self.config.eval_every and self.processes.is_main:
            learned = live_policy(self.config, self.model, self.decoder.action_map)
            save_policy(self.config.out, "last", learned, self._progress())
        self._save(evaluate or self.rounds == self.config.rounds)
        if not self.processes.is_main:
            return
        if evaluate or not self.config.eval_every:  # after its seconds have been counted
            judge = self.decoder.bundle.judge_name
            write_report(self.config, judge, self.history, self.seconds)
        if self.rounds == 1:  # now all that is recorded has been
            write_layout(self.logger, [*self._evaluation_tags(), *self.logger.name_to_value])
        self.logger.dump(self.trajectories)  # what belongs to this round, at this round

    def _evaluation_tags(self) -> list[str]:
        """Of the evaluation before the first round, if any."""
        scores = (
            [key for key in self.history[0] if key not in self._progress()] if self.history else []
        )
        return [*EVALUATION_TAGS, *(f"eval/{name}" for name in scores)]

    def _update_discriminator(self) -> None:
        """By the rollout's own images."""
        if self.adversary is not None:
            self._record_updates([self.adversary.update(self.config.discriminator_updates)])

    def _update_on_fresh_samples(self) -> None:
        """By images of the updated policy, with its exploration noise: others at each update.

        Those of one update are in memory at a time.
        """
        assert self.adversary is not None
        config, bundle = self.config, self.decoder.bundle
        policy: Any = self.model.policy
        exploring = ExploringPolicy(policy, self.decoder.action_map, config.observation)
        size, updates = config.discriminator.batch_size, config.discriminator_updates
        found = []
        for update in range(self.rounds * updates, (self.rounds + 1) * updates):
            labels = fresh_conditions(config, len(bundle.conditions), update * size)
            images = fresh_images(config, bundle, exploring, labels, update * size, self.processes)
            found.append(self.adversary.update(1, *images))
        self._record_updates(found)

    def _record_updates(self, found: Sequence[Mapping[str, float]]) -> None:
        for key in found[0]:
            value = float(np.mean([results[key] for results in found]))
            self.logger.record(f"discriminator/{key}", self._mean(value))
        self._record_time("discriminator")

    def _record_rollout(self) -> None:
        num_steps, found = self.config.num_steps, dict[str, float]()
        if steps := whole_steps(self._steps, self.processes):
            found |= quantity_scalars(steps, num_steps, self.decoder.action_map)
            found |= reward_scalars(steps, num_steps)
        if self._passes:
            found["passes/mean"] = self._mean(float(np.mean(self._passes)))
        if self.adversary is not None:
            found["reward/original_mean"] = self._mean(self.adversary.original_mean)
        for tag, value in found.items():
            self.logger.record(tag, value)

    def _mean(self, value: float) -> float:
        """Of a mean of as much on every process."""
        whole = self.processes.summed(torch.tensor(value, dtype=torch.float64))
        return float(whole) / self.processes.count

    def _evaluate(self) -> None:
        """FD of the learned policy on fixed seeds; keeps the best one."""
        started = time.perf_counter()
        bundle, config = self.decoder.bundle, self.config
        learned = live_policy(config, self.model, self.decoder.action_map)
        found = validate_together(
            bundle, learned, config.num_steps, config.num_samples, config.seed, self.processes
        )
        if found is None:  # the main one has it
            return
        distance = found.frechet_distance
        measured = self._progress() | found.scores
        self.history.append(measured)
        about = measured | {
            "judge": bundle.judge_name,
            "num_samples": config.num_samples,
            "actions": found.actions,
        }
        columns = min(SHEET, len(bundle.conditions))
        shown = at_most(found.shown, THUMBNAIL)
        grid = image_grid(shown, columns, thumbnail_scale(shown.shape[-1]))
        for name, value in found.scores.items():
            self.logger.record(f"eval/{name}", value)
        self.logger.record("eval/samples", Image(np.asarray(grid), "HWC"), exclude=("stdout",))
        with written_aside(config.out / "samples" / f"round_{self.rounds:05d}.png") as aside:
            grid.save(aside, format="PNG")
        if distance < self.best_distance:
            self.best_distance = distance
            save_policy(config.out, "best", learned, about)
        save_policy(config.out, "last", learned, about)
        self.logger.record("eval/best_frechet_distance", self.best_distance)
        self.logger.record("time/evaluation", time.perf_counter() - started)
        if self._bar is not None:
            self._bar.set_postfix_str(f"FD {distance:.2f}, best {self.best_distance:.2f}")
            if self._bar.disable and self.progress:  # no terminal: a line now and then
                print(f"round {self.rounds} of {config.rounds}: FD {distance:.2f}", flush=True)
        self.on_evaluation(measured)

    def _progress(self) -> dict[str, float]:
        """How far the training has come."""
        return {"round": self.rounds, "trajectories": self.trajectories}

    def _save(self, now: bool) -> None:
        """Write the state, or keep it until it is time."""
        clock = time.perf_counter()
        self.seconds, self._counted = self.seconds + clock - self._counted, clock
        environment = whole_environment(self.decoder.state_dict(), self.processes)
        if not self.processes.is_main:  # all else is alike on all
            return
        steps = self.model.num_timesteps * self.processes.count
        self._unwritten = {
            "learner": learner_state(self.model) | {"timesteps": steps},
            "reward": state_of(self._reward),
            "environment": environment,
            "callback": self.state_dict(),
            "random": random_states(self.decoder.bundle.device),
        }
        if now or clock - self._written >= self.config.save_every_seconds:
            self.write_state()
        else:
            self._unwritten = on_host(self._unwritten)

    def write_state(self) -> None:
        """Write the state at the end of the latest round, if it is not on disk."""
        if self._unwritten is not None:
            save_state(Path(self.config.out) / STATE, self._unwritten)
            self._unwritten, self._written = None, time.perf_counter()

    def _record_time(self, phase: str) -> None:
        now = time.perf_counter()
        self.logger.record(f"time/{phase}", now - self._clock)
        self._clock = now
