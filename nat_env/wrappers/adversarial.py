"""Gymnasium vector wrappers around the decoding environment."""

import math
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv, VectorWrapper
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.discriminator_reals import discriminator_reals
from nat_env.bundles.reals import check_every_condition
from nat_env.episodes.prompts import chosen_prompts
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.discriminator_config import GROUPS, DiscriminatorConfig
from nat_env.rewards.protocol import scores_of
from nat_env.rewards.trunks import ClassifierTrunk
from nat_env.vector_env import NATDecodeVectorEnv


class AdversarialReward(VectorWrapper):
    """Replaces the reward by that of a discriminator, which `update` trains on what was decoded.

    The environment's own reward goes to `info["original_reward"]`. Images of finished episodes
    wait in a buffer until `update`, which the learner calls between rollouts; the rewards of a
    rollout therefore come from one discriminator.

    Example:
        >>> env = AdversarialReward(NATDecodeVectorEnv(2, "digits", num_steps=2), reals="raw")
        >>> _ = env.reset(seed=0)
        >>> for _ in range(2):
        ...     _, reward, _, _, info = env.step(np.zeros((2, 4)))
        >>> bool(((reward > 0) & (reward < 1)).all()), sorted(env.update(num_updates=1))
        (True, ['accuracy_fake', 'accuracy_real', 'loss'])
    """

    def __init__(
        self,
        env: VectorEnv,
        model: AdversarialRewardModel | None = None,
        reals: str = "reconstructed",
        bypass: bool = False,
        seed: int = 0,
        capacity: int = 8192,
    ) -> None:
        """Wrap `env`.

        Args:
            env: a `NATDecodeVectorEnv`, wrapped or not.
            model: the discriminator; by default heads on the bundle's trunk, half as wide as its
                last stage.
            reals: see `discriminator_reals`; for the default model.
            bypass: pass the original reward on, for debugging; the discriminator still learns.
            seed: of the default model.
            capacity: images that wait at most; the oldest make room. 0: none wait, for updates that
                are given images.

        Raises:
            ValueError: not a decoding environment, a capacity below 0, or no real images of some
                condition.
        """
        super().__init__(env)
        if not isinstance(env.unwrapped, NATDecodeVectorEnv):
            raise ValueError(f"env: got {env.unwrapped!r}, allowed is a NATDecodeVectorEnv")
        if capacity < 0:
            raise ValueError(f"capacity: got {capacity}, allowed is >= 0")
        self.decoder = env.unwrapped
        bundle = self.decoder.bundle
        self.model = model or default_model(bundle, reals, seed)
        if isinstance(self.model, AdversarialRewardModel) and not self.model.knows_prompts:
            seen = self.model.reals.conditions
            check_every_condition(seen, bundle.conditions.names, "model: its reals")
        self.bypass = bypass
        self._original_sum, self._original_count = 0.0, 0
        self.capacity = capacity
        self._images: list[Tensor] = []
        self._conditions: list[Tensor] = []

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """As the environment's.

        Raises:
            ValueError: as the environment's, or a prompt that the bundle's table does not have: a
                discriminator knows that table.
        """
        prompts = chosen_prompts(options or {}, self.num_envs) or []
        known = self.decoder.bundle.conditions.by_name
        if others := [prompt for prompt in prompts if prompt not in known]:
            raise ValueError(
                f"prompt: got {others[0]!r}, allowed with a discriminator are the prompts of the "
                "bundle's table; see Bundle.with_prompts"
            )
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """As the environment's, with the discriminator's reward where an episode ends.

        Raises:
            ValueError: as the environment's, or a discriminator's reward that is not finite.
        """
        observation, original, terminated, truncated, info = self.env.step(actions)
        rewards = original if self.bypass else np.zeros_like(original)
        images, conditions = self.decoder.final_images, self.decoder.final_conditions
        if images is not None and conditions is not None:
            if self.capacity:  # copies: whatever others do to theirs until the update
                self._images.append(images.clone())
                self._conditions.append(conditions.clone())
            if sum(map(len, self._images)) > self.capacity:  # no update for long
                self._images = [torch.cat(self._images)[-self.capacity :]]
                self._conditions = [torch.cat(self._conditions)[-self.capacity :]]
            self._original_sum += float(original[terminated].sum())
            self._original_count += int(terminated.sum())
            if not self.bypass:
                scores = scores_of(self.model, images, conditions, "discriminator")
                rewards[terminated] = scores.numpy()
        extra = {"original_reward": original, "_original_reward": terminated}
        info = info | extra
        if "final_info" in info:  # where adapters look for what belongs to an ended episode
            info["final_info"] = info["final_info"] | extra
        return observation, rewards, terminated, truncated, info

    @property
    def original_mean(self) -> float:
        """Mean of the environment's own reward over the episodes that ended since the last update.

        NaN where none has.
        """
        return self._original_sum / self._original_count if self._original_count else math.nan

    def update(
        self,
        num_updates: int = 5,
        images: Tensor | None = None,
        conditions: Tensor | None = None,
    ) -> dict[str, float]:
        """Train the discriminator and empty the buffer.

        Args:
            num_updates: gradient steps.
            images: [n, C, H, W] fresh samples of the current policy with their labels, instead
                of those that the rollout left in the buffer.
            conditions: [n].

        Returns:
            The means over the updates of what `AdversarialRewardModel.update` gives.

        Raises:
            ValueError: no images to learn from, no updates asked for, or what the model refuses:
                nothing has changed then.
        """
        if num_updates < 1:
            raise ValueError(f"num_updates: got {num_updates}, allowed is >= 1")
        if (images is None) != (conditions is None):
            raise ValueError("images: give them with their conditions, or neither")
        if images is None or conditions is None:
            if not self._images:
                raise ValueError("images: none given, and no episode has ended since last update")
            images, conditions = torch.cat(self._images), torch.cat(self._conditions)
            self._images, self._conditions = [images], [conditions]  # kept should it be refused
        found = self.model.update(images, conditions, num_updates)
        self._images, self._conditions = [], []
        self._original_sum, self._original_count = 0.0, 0
        return found


def default_model(bundle: Bundle, reals: str, seed: int) -> AdversarialRewardModel:
    """Heads on the bundle's trunk, half as wide as its last stage: those of the presets."""
    known = discriminator_reals(bundle, reals)
    trunk = ClassifierTrunk(bundle.require("trunk"))
    width = max(GROUPS, trunk.stage_sizes[-1] // 2 // GROUPS * GROUPS)
    return AdversarialRewardModel(
        known,
        len(bundle.conditions),
        DiscriminatorConfig(trunk="bundle", widths=(width,)),
        seed,
        trunk,
        bundle.device,
        bundle.conditions.pooled,
    )
