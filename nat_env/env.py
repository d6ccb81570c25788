"""A single sample being decoded: the vector environment with one row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from nat_env.actions import RAW_SCALE, ActionMap
from nat_env.bundles.bundle import Bundle
from nat_env.episodes.inputs import check_options, chosen_canvas, chosen_conditions
from nat_env.episodes.prompts import chosen_prompts
from nat_env.rewards.names import RewardChoice
from nat_env.vector_env import NATDecodeVectorEnv


class NATDecodeEnv(gym.Env):
    """`gym.make("NATDecode-v0")`: row 0 of a `NATDecodeVectorEnv`, to which the arguments go."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 2}

    def __init__(
        self,
        bundle: str | Path | Bundle = "fashion",
        num_steps: int = 4,
        observation: str = "features",
        dtype: str = "auto",
        device: str = "cpu",
        residual: str | None = None,
        render_mode: str | None = None,
        reward_fn: RewardChoice = "judge",
        raw_scale: float = RAW_SCALE,
        action_smoothing: float = 0.0,
        aligned: bool = False,
        quantities: Sequence[str] | None = None,
    ) -> None:
        """Make the environment, see `NATDecodeVectorEnv`."""
        self.vector = NATDecodeVectorEnv(
            1,
            bundle,
            num_steps,
            observation,
            dtype,
            device,
            residual,
            AutoresetMode.DISABLED,
            render_mode,
            reward_fn,
            raw_scale,
            action_smoothing,
            aligned=aligned,
            quantities=quantities,
        )
        self.render_mode = render_mode
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space

    @property
    def action_map(self) -> ActionMap:
        """From actions to physical quantities."""
        return self.vector.action_map

    @property
    def feature_grid(self) -> tuple[int, int]:
        """Places of the features along height and width."""
        return self.vector.feature_grid

    @property
    def num_steps(self) -> int:
        """T."""
        return self.vector.num_steps

    @property
    def seen(self) -> str:
        """See `NATDecodeVectorEnv`."""
        return self.vector.seen

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: of its random numbers.
            options: `condition`, its label, or `prompt`, its text; `ids` [N] and `known` [N] bool,
                of an image that is partly known.
        """
        # Checked before the seed changes anything.
        options = options or {}
        check_options(options, ("condition", "prompt", "ids", "known"))
        bundle = self.vector.bundle
        chosen_conditions(options, 1, bundle)
        begun = chosen_canvas(options, (bundle.num_tokens,), bundle)
        if prompts := chosen_prompts(options, 1):
            self.vector.table.take(self.vector.conditions[:0], prompts)
        super().reset(seed=seed)
        self.vector.generators = [self.np_random]
        given = dict(options)
        if begun is not None:
            given |= {"ids": begun[None], "known": begun[None] != bundle.nat.mask_id}
        observation, _ = self.vector.reset(options=given)
        return _first(observation), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One decoding step.

        `info` holds `action`, the physical m, tau_1, tau_2, w, and `passes`, how many there were.
        """
        observation, rewards, terminated, _, info = self.vector.step(np.asarray(action)[None])
        done = bool(terminated[0])
        told = {"action": info["action"][0], "passes": int(info["passes"][0])}
        return _first(observation), float(rewards[0]), done, False, told

    def render(self) -> Any:
        """The canvas so far [H, W, 3] uint8, or None without a render mode."""
        frames = self.vector.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Close the vector environment."""
        self.vector.close()


def _first(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: value[0] for key, value in observation.items()}
    return observation[0]
