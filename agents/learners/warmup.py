"""Learning beside a reward model that learns: the policy rests at first, and rounds alternate."""

from typing import Any

import sb3_contrib
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm


class WaitsForReward(BaseAlgorithm):
    """Mixed into a learner: no update before `warmup_timesteps`, and nothing kept for one.

    An untrained discriminator's normalised reward is noise at full amplitude.
    """

    warmup_timesteps = 0

    @property
    def warming_up(self) -> bool:
        """Whether the policy rests."""
        return self.num_timesteps <= self.warmup_timesteps

    def train(self, *args: Any, **kwargs: Any) -> None:
        """The learner's update, if it is time for one."""
        if not self.warming_up:
            super().train(*args, **kwargs)  # type: ignore[misc]
        elif isinstance(self, OffPolicyAlgorithm) and self.replay_buffer is not None:
            self.replay_buffer.reset()


class DiscriminatorUpdates(BaseCallback):
    """Trains the discriminator of an `AdversarialReward` on each rollout's images."""

    def __init__(self, num_updates: int) -> None:
        """Make `num_updates` gradient steps after a rollout."""
        super().__init__()
        self.num_updates = num_updates

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        results, *_ = self.training_env.env_method("update", self.num_updates)
        for key, value in results.items():
            self.logger.record(f"discriminator/{key}", value)


def waiting(learner: type[BaseAlgorithm]) -> type[BaseAlgorithm]:
    """`learner` with `WaitsForReward`."""
    return type(learner.__name__, (WaitsForReward, learner), {})


class ARS(WaitsForReward, sb3_contrib.ARS):
    """Augmented random search that counts every step once.

    It has no `train`: during the warm-up its steps are undone.
    """

    def _trigger_callback(self, _locals: Any, _globals: Any, callback: Any, n_envs: int) -> None:
        # It is called for each environment of a step, of which callbacks want one call.
        if _locals["i"] == n_envs - 1:
            callback.update_locals({key: _locals[key] for key in ("actions", "rewards")})
            super()._trigger_callback(_locals, _globals, callback, n_envs)

    def _do_one_update(self, callback: BaseCallback, async_eval: Any) -> None:
        # A round is over, and its state saved, before the next one draws its directions.
        callback.on_rollout_start()
        before = self.weights
        super()._do_one_update(callback, async_eval)
        if self.warming_up:
            self.weights = before
            self.policy.load_from_vector(before.cpu())  # type: ignore[attr-defined, union-attr]

    def set_parameters(self, *args: Any, **kwargs: Any) -> None:
        """As sb3-contrib's, which leaves the vector that the search goes on from as it was."""
        super().set_parameters(*args, **kwargs)
        vector = [p.detach().flatten() for p in self.policy.parameters()]
        self.weights = torch.cat(vector).to(self.device)
