"""The decoding loop of a frozen NAT as a Gymnasium vector environment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from nat_env.actions import RAW_SCALE, ActionMap
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import load_bundle
from nat_env.canvases import Canvases
from nat_env.episodes.inputs import (
    Starts,
    check_construction,
    checked_actions,
    chosen_autoreset_mode,
    seeded_generators,
)
from nat_env.episodes.observations import ObservationForm
from nat_env.episodes.prompts import PromptTable
from nat_env.frozen.transfers import sent
from nat_env.render import canvas
from nat_env.rewards.names import RewardChoice, chosen_reward
from nat_env.rewards.protocol import scores_of
from nat_env.schedules import residual_schedule


class NATDecodeVectorEnv(Canvases, VectorEnv):
    """Samples being decoded side by side; one step of the environment is one decoding step.

    Action: Box(-1, 1, (4,)), mapped to (m, tau_1, tau_2, w) by `ActionMap`, or of other
    `quantities`, by token too; the physical values stand in `info["action"]`. An episode terminates
    when no token is masked, after `num_steps` steps at most, and is never truncated. The reward is
    0 but for the last step, where it is `reward_fn(images, conditions)`.

    One pass of the NAT serves the observation and the step that follows it; `info["passes"]` counts
    them. The pass on the all-masked canvas is kept per label. Finished episodes have no features:
    their last observation has zeros there.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's; replaced per instance)
        "render_modes": ["rgb_array"],
        "render_fps": 2,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        bundle: str | Path | Bundle = "fashion",
        num_steps: int = 4,
        observation: str = "features",
        dtype: str = "auto",
        device: str = "cpu",
        residual: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        reward_fn: RewardChoice = "judge",
        raw_scale: float = RAW_SCALE,
        action_smoothing: float = 0.0,
        observations_kept: int = 1,
        aligned: bool = False,
        quantities: Sequence[str] | None = None,
        group_size: int = 1,
    ) -> None:
        """Make the environments.

        Args:
            num_envs: B >= 1.
            bundle: a shipped bundle's name, a folder, or a loaded bundle.
            num_steps: T >= 1.
            observation: `features` (Dict of features [N * D] and timestep), `confidences` (the same
                of [N * 2], see `confidence_features`), `pooled` (one flat Box), `tokens` (Dict of
                ids, condition and timestep), or `handles` (Dict of slot and timestep): the features
                stay on the device, where `ring.rows(slot)` has them.
            dtype: of the transformer, see `load_bundle`; ignored for a loaded bundle.
            device: likewise.
            residual: None, or `heuristic`: actions are added to the papers' schedule, so that 0
                stands for it; `authors`, the table in their code; `amused`, that of diffusers'
                pipeline; a sampler's name, which then says what stays masked; or a file written by
                `Schedule.save`.
            autoreset_mode: Gymnasium's three: `NextStep`, `SameStep`, `Disabled`.
            render_mode: None or `rgb_array`.
            reward_fn: scores final images: a name of `named_reward`, a dict of `name` and its
                options, or a function; by default the judge's log-likelihood of the label.
            raw_scale: raw values of the actions -1 and 1: temperatures and guidance reach up to it.
            action_smoothing: alpha of the running average that stands for the actions, in [0, 1).
            observations_kept: of `handles`, how many of the latest observations have features.
            aligned: whether a row that has nothing masked waits until step T, at no pass and with
                the observation of a finished one, so that rows begin and end together.
            quantities: what an action decides, see `ActionMap`.
            group_size: so many rows, one after the other, are given the same label and the same
                random numbers: their rewards differ by what was done. They have to be `aligned`.

        Raises:
            ValueError: any of these is not allowed.
        """
        check_construction(
            num_envs, num_steps, observations_kept, group_size, aligned, render_mode,
            self.metadata["render_modes"],
        )  # fmt: skip
        self.autoreset_mode = chosen_autoreset_mode(autoreset_mode)
        self.bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle, dtype, device)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.metadata = self.metadata | {"autoreset_mode": self.autoreset_mode}
        num_tokens = self.bundle.num_tokens
        schedule = residual_schedule(residual, num_steps, num_tokens)
        self.action_map = ActionMap(schedule, raw_scale, action_smoothing, quantities, num_tokens)
        self.reward_fn = chosen_reward(reward_fn, self.bundle)
        self._form = ObservationForm.named(
            observation, self.bundle, num_steps, num_envs, observations_kept
        )
        self.ring, self.feature_grid = self._form.ring, self._form.grid
        """The features of `handles`, else None; and places of features, [height, width]."""
        self.seen = "confidences" if observation == "confidences" else "features"
        """What a `DecodingPolicy` is shown that is learned here, see its `observation`."""
        table = PromptTable(self.bundle, self.reward_fn, shown=observation == "tokens")
        self.single_observation_space = self._form.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        size = len(self.action_map.names)
        self.single_action_space = spaces.Box(-1.0, 1.0, (size,), np.float32)
        self.action_space = batch_space(self.single_action_space, num_envs)

        super().__init__(table, self.action_map, num_envs, num_steps, aligned, group_size)
        self.final_images: Tensor | None = None
        """Images [F, C, H, W] of the F rows that finished in the latest step, for wrappers."""
        self.final_conditions: Tensor | None = None
        """Their labels [F], where the images are."""

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes: all, or the rows of `options["reset_mask"]`.

        Args:
            seed: sub-environment i gets seed + i, or seed[i]; a group that of its first row.
            options: `reset_mask` [B] bool. For the episodes that start here alone: `condition`, a
                label or one per row, or `prompt`, a text or one per row, encoded if the bundle's
                table does not have it; `ids` [B, N] and `known` [B, N] bool, of images partly
                known. Automatic resets draw from that table, and start from the empty canvas.

        Raises:
            ValueError: a mask, labels, prompts or tokens of the wrong kind, another option, or see
                `Bundle.with_prompts`.
        """
        shape = (self.num_envs, self.bundle.num_tokens)
        started = self._passes is not None
        starts = Starts.of(options, shape, self.bundle, started, self.group_size)
        generators = seeded_generators(self.generators, seed, starts.mask)
        labels = starts.labels
        if starts.prompts is not None:
            self.conditions, labels = self.table.started(
                self.conditions, starts.mask, starts.prompts
            )
        elif starts.mask.all():
            self.table.restore([])
        self.generators = generators
        if seed is not None:  # a group goes by the seed of its first row
            self.passes = self.passes.index_fill(0, starts.rows, 0)
        self._start(starts.rows, labels, starts.canvases)
        return self._observation(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One decoding step of every row.

        Args:
            actions: [B, n] in [-1, 1], n = 4 by default; what rounding put beyond it is clipped.

        Raises:
            ValueError: actions of another shape, not finite or outside the box; or logits of the
                transformer that are not finite.
            gymnasium.error.ResetNeeded: before the first reset, or on a finished row when
                automatic resets are disabled.
        """
        if self._passes is None or self.generators is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        shape = (self.num_envs, self.average.shape[1])
        checked = torch.from_numpy(checked_actions(actions, shape))
        finished = self.timesteps == self.num_steps
        if self.autoreset_mode == AutoresetMode.DISABLED and bool(finished.any()):
            raise gym.error.ResetNeeded(
                f"rows {finished.nonzero()[:, 0].tolist()} are finished; call "
                "reset(options={'reset_mask': ...}) first"
            )
        average = self.action_map.smoothed(checked, self.timesteps, self.average)
        physical = self.action_map.physical(average, self.timesteps)
        self._decode(~finished, physical)
        self.average = average  # only after a step that was not refused
        info: dict[str, Any] = {"action": physical.numpy(), "passes": self.passes.numpy().copy()}
        info |= {"_action": (~finished).numpy(), "_passes": (~finished).numpy()}
        terminated = (self.timesteps == self.num_steps) & ~finished
        done = terminated.numpy()
        rewards = self._rewards(terminated)
        starting = finished
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            starting = terminated | finished
            if done.any():
                info |= self._form.final_info(self.ids, self.conditions, done, info)
        if bool(starting.any()):
            self._start(starting.nonzero()[:, 0])
        return self._observation(), rewards, done, np.zeros(self.num_envs, bool), info

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Go on from `state_dict()`; gives the observation.

        Raises:
            ValueError: the state of an environment of other sizes; nothing has changed then.
        """
        self._restore(state)
        return self._observation()

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One frame [H, W, 3] uint8 per row: the canvas so far, masked tokens covered."""
        if self.render_mode is None or self._passes is None:
            return None
        guess = self._passes.logits.argmax(dim=-1)
        return tuple(canvas(self.bundle.tokenizer, self.ids, guess, self.bundle.nat.mask_id))

    def _rewards(self, terminated: Tensor) -> np.ndarray:
        rewards = np.zeros(self.num_envs, np.float64)
        self.final_images = self.final_conditions = None
        if bool(terminated.any()):
            rows, device = terminated.nonzero()[:, 0], self.bundle.device
            self.final_conditions = sent(self.conditions[rows], device)
            self.final_images = self.bundle.tokenizer.decode(self.ids[sent(rows, device)])
            scores = scores_of(self.reward_fn, self.final_images, self.final_conditions)
            rewards[terminated.numpy()] = scores.cpu().numpy()
        return rewards

    def _observation(self) -> Any:
        assert self._passes is not None
        shown = self.timesteps.masked_fill(self.masked == 0, self.num_steps)
        return self._form.observe(self._passes, self.ids, self.conditions, shown)
