"""Learned policies as decoding takes them: after training, or with their exploration."""

from typing import Any

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch import Tensor, nn

from agents.learners.policy import AdaNATPolicy, rounded
from nat_env.actions import ActionMap
from nat_env.episodes.observations import pooled
from nat_env.samplers.protocol import Sampler


class _Smoother:
    """What a policy remembers of its own actions from one step of a batch to the next.

    Without smoothing nothing. Batches are decoded one after the other, each from step 0 on.
    """

    def __init__(self, action_map: ActionMap) -> None:
        self.action_map = action_map
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(
        self, mean: Tensor, timestep: Tensor, std: float | Tensor = 0.0
    ) -> tuple[Tensor, float | Tensor]:
        """Means [B, 4] and deviations of a step's actions -> those of their running average.

        The noise of one step is independent of that of another: variances of the average go by
        the squares of its weights.

        Raises:
            ValueError: a step that does not follow on the one before.
        """
        alpha = self.action_map.smoothing
        if not alpha:
            return mean, std
        variance = torch.as_tensor(std, device=mean.device).expand_as(mean) ** 2
        if self._last is None or self._last[2].shape != timestep.shape:
            self._last = (mean, variance, torch.full_like(timestep, -2))
        before, variance_before, step_before = self._last
        if bool(((timestep != 0) & (timestep != step_before + 1)).any()):
            raise ValueError(
                f"timestep: got {timestep.tolist()} after {step_before.tolist()}, allowed with "
                "action smoothing is 0, or the step after the one before"
            )
        average = self.action_map.smoothed(mean, timestep, before)
        spread = alpha**2 * variance_before + (1 - alpha) ** 2 * variance
        spread = torch.where((timestep == 0)[:, None], variance, spread)
        self._last = (average, spread, timestep.clone())
        return average, spread.sqrt()


class _Mapped:
    """A policy whose actions an `ActionMap` makes quantities of."""

    def __init__(self, action_map: ActionMap, observation: str = "features") -> None:
        self.action_map = action_map
        self.observation = observation
        self._smoother = _Smoother(action_map)

    @property
    def sampler(self) -> Sampler | None:
        """The residual schedule's, by whose rule it was trained."""
        return self.action_map.sampler

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what it gives, see `DecodingPolicy`."""
        return tuple(quantity.name for quantity in self.action_map.physical_quantities)


class LearnedPolicy(_Mapped):
    """What is used after training: the expectation of m, tau_1, tau_2, w under the Gaussian.

    The paper takes the activations of the Gaussian's mean instead (4.2, at test time). As they are
    curved, that is another policy than the one which was trained, whose samples can be much worse
    while the exploration is wide; the two agree for sigma = 0. Features are rounded as in training.

    With action smoothing the Gaussian is that of the running average, under the noise of all the
    steps so far: what a training's quantities were distributed by. It remembers them, so that a
    batch is decoded from its first step to its last before the next one.
    """

    def __init__(
        self,
        actor: nn.Module,
        action_map: ActionMap,
        action_std: float,
        num_steps: int,
        test_action: str = "expectation",
        observation: str = "features",
    ) -> None:
        """Follow `actor`, whose outputs are in raw units, through `action_map`.

        Args:
            actor: features [B, N, D] and timesteps [B] -> means [B, 4].
            action_map: from the box to physical values.
            action_std: sigma in raw units that the actor was last trained with.
            num_steps: T, that it was trained for.
            test_action: `expectation`, or the paper's `mean`.
            observation: what its features are, `features` or `confidences`, see `DecodingPolicy`.

        Raises:
            ValueError: another one.
        """
        if test_action not in ("expectation", "mean"):
            raise ValueError(f"test_action: got {test_action!r}, allowed are 'expectation', 'mean'")
        self.test_action = test_action
        super().__init__(action_map, observation)
        self.actor = actor
        self.action_std = action_std
        self.num_steps = num_steps

    def state_dict(self) -> dict[str, Any]:
        """The actor's weights and its deviation."""
        return {"actor": self.actor.state_dict(), "action_std": self.action_std}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`."""
        self.actor.load_state_dict(state["actor"])
        self.actor.eval().requires_grad_(False)
        self.action_std = float(state["action_std"])

    @torch.no_grad()
    def __call__(self, features: Tensor, timestep: Tensor) -> Tensor:
        """Features [B, N, D] and timesteps [B] -> m, tau_1, tau_2, w [B, 4]."""
        scale = self.action_map.raw_scale
        mean = self.actor(rounded(features), timestep) / scale
        if self.test_action == "mean":
            mean, _ = self._smoother(mean.clamp(-1, 1), timestep)
            return self.action_map.physical(mean, timestep)
        mean, std = self._smoother(mean, timestep, self.action_std / scale)
        return self.action_map.mean_physical(mean, std, timestep)


class ExploringPolicy(_Mapped):
    """A policy with its exploration noise as a `DecodingPolicy`: what a rollout follows."""

    def __init__(
        self, policy: AdaNATPolicy, action_map: ActionMap, observation: str = "features"
    ) -> None:
        """Sample from `policy` through `action_map`; of `observation` see `LearnedPolicy`."""
        super().__init__(action_map, observation)
        self.policy = policy

    @torch.no_grad()
    def __call__(self, features: Tensor, timestep: Tensor) -> Tensor:
        """Features [B, N, D] and timesteps [B] -> m, tau_1, tau_2, w [B, 4]."""
        raw = self.policy.explore(self.policy.actor(rounded(features), timestep))
        actions, _ = self._smoother((raw / self.policy.raw_scale).clamp(-1, 1), timestep)
        return self.action_map.physical(actions, timestep)


class PredictedPolicy(_Mapped):
    """A stable-baselines3 policy on pooled observations as a `DecodingPolicy`.

    Of a Gaussian policy it is the expectation of m, tau_1, tau_2, w or, for `test_action` "mean",
    the activations of its mean, as in `LearnedPolicy`; of another the action that it gives without
    exploration.
    """

    def __init__(
        self,
        policy: BasePolicy,
        action_map: ActionMap,
        num_steps: int,
        test_action: str = "expectation",
    ) -> None:
        """Follow `policy` through `action_map` in T = `num_steps`."""
        super().__init__(action_map)
        self.test_action = test_action
        self.policy = policy
        self.num_steps = num_steps
        self._memory: Any = None

    def state_dict(self) -> dict[str, Any]:
        """All weights."""
        return self.policy.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`."""
        self.policy.load_state_dict(state)
        self.policy.set_training_mode(False)

    @torch.no_grad()
    def __call__(self, features: Tensor, timestep: Tensor) -> Tensor:
        """Features [B, N, D] and timesteps [B] -> m, tau_1, tau_2, w [B, 4].

        A recurrent policy remembers from one call to the next, as one with action smoothing does:
        its batches are decoded one after the other.
        """
        observation = pooled(features, timestep, self.num_steps)
        if isinstance(self.policy, ActorCriticPolicy):
            gaussian = self._distribution(observation, timestep)
            if self.test_action == "mean":
                return self._applied(gaussian.mean, timestep)
            mean, std = self._smoother(gaussian.mean, timestep, gaussian.stddev)
            return self.action_map.mean_physical(mean, std, timestep)
        was_training = self.policy.training
        self.policy.set_training_mode(False)
        actions = self.policy._predict(observation, deterministic=True)
        self.policy.set_training_mode(was_training)
        return self._applied(actions, timestep)

    def _applied(self, actions: Tensor, timestep: Tensor) -> Tensor:
        average, _ = self._smoother(actions.clamp(-1, 1), timestep)
        return self.action_map.physical(average, timestep)

    def _distribution(self, observation: Tensor, timestep: Tensor) -> torch.distributions.Normal:
        policy = self.policy
        if not isinstance(policy, RecurrentActorCriticPolicy):
            assert isinstance(policy, ActorCriticPolicy)
            return policy.get_distribution(observation).distribution  # type: ignore[return-value]
        starts = (timestep == 0).float()
        if self._memory is None or self._memory[0].shape[1] != len(timestep):
            lstm = policy.lstm_actor
            zeros = observation.new_zeros(lstm.num_layers, len(timestep), lstm.hidden_size)
            self._memory = (zeros, zeros)
        found, self._memory = policy.get_distribution(observation, self._memory, starts)
        return found.distribution  # type: ignore[return-value]


TrainedPolicy = LearnedPolicy | PredictedPolicy
"""What a training gives."""
