"""`AdaNATPolicy`: the paper's actor and critic as a stable-baselines3 policy."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor
from torch.distributions import Normal

from agents.learners.network import AdaNATNetwork
from agents.learners.optimizer import AccumulatingAdam
from agents.learners.options import ExplorationOptions
from nat_env.actions import RAW_SCALE
from nat_env.decoding.quantities import QUANTITIES
from nat_env.episodes.ring import FeatureRing

LEAST_WIDTH = 64
"""Of networks on features of a few numbers."""


def rounded(features: Tensor) -> Tensor:
    """As in the rollout buffer, so that PPO's probability ratios start at one."""
    return features.half().float()


def check_observation_space(space: spaces.Space) -> spaces.Dict:
    """The space, if it is of the form `features`, or `handles`.

    Raises:
        ValueError: it is of another form, that of several observations stacked say.
    """
    parts = space.spaces if isinstance(space, spaces.Dict) else {}
    shapes = {name: part.shape for name, part in parts.items()}
    handles = {"slot": (1,), "timestep": (1,)}
    if isinstance(space, spaces.Dict) and shapes == handles:
        return space
    features = shapes.pop("features", None) or ()
    if not isinstance(space, spaces.Dict) or len(features) != 1 or shapes != {"timestep": (1,)}:
        raise ValueError(
            f"observation_space: got {space}, allowed with AdaNATPolicy is the Dict of features "
            "and timestep that an environment with observation='features' has, or that of "
            "observation='handles'"
        )
    return space


class _Unfold(BaseFeaturesExtractor):
    """Observation dict -> features [B, M, D] and timestep [B]; no parameters."""

    ring: FeatureRing | None = None
    """Of the environment whose observations are handles."""

    def __init__(self, observation_space: spaces.Dict, places: int, num_steps: int) -> None:
        super().__init__(observation_space, features_dim=1)
        self.places = places
        self.num_steps = num_steps

    def forward(self, observations: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        timestep = self._timestep(observations)
        if "slot" not in observations:
            features = rounded(observations["features"])
            return features.unflatten(1, (self.places, -1)), timestep
        if self.ring is None:
            raise ValueError(
                "observations: got handles, allowed are those of the environment that the policy "
                "learns on: model.set_env(env) tells it"
            )
        return self.ring.rows(observations["slot"][:, 0]), timestep

    def _timestep(self, observations: dict[str, Tensor]) -> Tensor:
        given = observations["timestep"][:, 0]
        timestep = given.long()
        # Whoever changes them does so on the host; an accelerator would have to be waited for.
        if given.device.type != "cpu":
            return timestep
        if ((timestep != given) | (timestep < 0) | (timestep > self.num_steps)).any():
            raise ValueError(
                f"timestep: got {given.min():g} .. {given.max():g}, allowed are the integers "
                f"0 .. {self.num_steps}; VecNormalize leaves them as they are with "
                "norm_obs_keys=['features']"
            )
        return timestep


class AdaNATPolicy(ActorCriticPolicy):
    """Gaussian around the actor's output (Eq. 9), with a standard deviation set from outside.

    The mean is in the paper's raw units (before sigmoid and softplus) and divided by `raw_scale`
    to lie in the environment's box. At the last step m and tau_2 have no effect, so they are left
    out of the log-probability: there they are noise in the probability ratio. Numbers of single
    tokens are in it until then, of known tokens too.
    """

    sigma: Tensor
    _idle: Tensor
    """Which numbers have no effect at each timestep [T + 1, n]."""
    noise_like: Callable[[Tensor], Tensor] = staticmethod(lambda mean: torch.randn_like(mean))
    """Standard normal numbers for means [B, n]; in several processes those of the own rows."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        grid: tuple[int, int],
        hidden_size: int | None = None,
        action_std: float = ExplorationOptions.action_std,
        adaptive: bool = True,
        shared_noise: bool = False,
        raw_scale: float = RAW_SCALE,
        feature_size: int | None = None,
        idle_at_last: Sequence[bool] | None = None,
        map_size: int = 0,
        use_sde: bool = False,
        optimizer_class: type[torch.optim.Optimizer] = AccumulatingAdam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Make actor and critic, apart from each other.

        Args:
            observation_space: of the environment's `features` form.
            action_space: of the environment.
            lr_schedule: of the optimizer.
            grid: places of the features along height and width; `PPO` asks the environment.
            hidden_size: width of both networks, a multiple of 4; by default that of the features,
                at least 64 and at most the paper's 512.
            action_std: sigma, in raw units; kept with the weights.
            adaptive: False for an actor that sees the timestep alone. The critic always sees both:
                it is a baseline only.
            shared_noise: explore by one draw for all samples of a batch: with an actor that is not
                adaptive they then share their configuration, and a reward that belongs to the
                batch (`FrechetReward`) can tell what it was worth.
            raw_scale: of the environment's `ActionMap`.
            feature_size: D, where observations are handles, which do not tell it; `PPO` asks the
                environment.
            idle_at_last: which numbers of an action have no effect at the last step; `PPO` asks the
                environment's `ActionMap`. By default m and tau_2 of four.
            map_size: how many of the last numbers of an action are one of each token, for which the
                actor has a head of its own; `PPO` asks the environment's `ActionMap`.
            use_sde: must be False; stable-baselines3 passes it.
            optimizer_class: of both networks.
            optimizer_kwargs: of its constructor, but for the learning rate; nothing is added.

        Raises:
            ValueError: another observation form, a grid that does not fit it, or numbers of an
                action that do not fit its space.
        """
        observation_space = check_observation_space(observation_space)
        places = grid[0] * grid[1]
        if use_sde:
            raise ValueError("use_sde: got True, allowed is False")
        self.grid = tuple(grid)
        self.feature_size = _feature_size(observation_space, places, feature_size)
        width = min(4 * math.ceil(self.feature_size / 4), 512)
        self.hidden_size = hidden_size or max(width, LEAST_WIDTH)
        timestep = observation_space["timestep"]
        assert isinstance(timestep, spaces.Box)
        num_steps = int(timestep.high[0])
        self.last_step = num_steps - 1
        self.adaptive = adaptive
        self.shared_noise = shared_noise
        self.raw_scale = raw_scale
        actions = int(np.prod(action_space.shape or (0,)))
        usual = tuple(q.is_idle_at_last for q in QUANTITIES)
        self.idle_at_last = usual if idle_at_last is None else tuple(idle_at_last)
        if len(self.idle_at_last) != actions:
            raise ValueError(
                f"idle_at_last: got {len(self.idle_at_last)} truth values, allowed are {actions}, "
                "one for each number of an action"
            )
        if not 0 <= map_size < actions:
            raise ValueError(
                f"map_size: got {map_size}, allowed are 0 .. {actions - 1}: fewer than the numbers "
                "of an action"
            )
        self.map_size = map_size
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            features_extractor_class=_Unfold,
            features_extractor_kwargs={"places": places, "num_steps": num_steps},
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs or {},  # None: stable-baselines3 chooses Adam's eps
        )
        self.register_buffer("sigma", torch.tensor(float(action_std)))
        idle = torch.zeros(num_steps + 1, len(self.idle_at_last), dtype=torch.bool)
        idle[self.last_step] = torch.tensor(self.idle_at_last)
        idle[num_steps] = True  # of a row that waits: nothing is masked
        self.register_buffer("_idle", idle, persistent=False)

    @property
    def action_std(self) -> float:
        """sigma, in raw units."""
        return float(self.sigma)

    @action_std.setter
    def action_std(self, value: float) -> None:
        self.sigma.fill_(value)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Sigma is filled in where a file does not have it."""
        state.setdefault(f"{prefix}sigma", self.sigma)
        super()._load_from_state_dict(state, prefix, *args)

    def _build(self, lr_schedule: Schedule) -> None:
        grid = (self.grid[0], self.grid[1])
        numbers, hidden = len(self.idle_at_last) - self.map_size, self.hidden_size
        self.actor = AdaNATNetwork(
            self.feature_size, grid, numbers, hidden, self.adaptive, self.map_size
        )
        self.critic = AdaNATNetwork(self.feature_size, grid, 1, self.hidden_size)
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Observations -> actions [B, n] in box units, values [B, 1], log-probabilities [B]."""
        features, timestep = self._state(obs)
        mean = self.actor(features, timestep)
        raw = mean if deterministic else self.explore(mean)
        log_prob = self._log_prob(mean, raw, timestep)
        return raw / self.raw_scale, self.critic(features, timestep), log_prob

    def evaluate_actions(
        self, obs: PyTorchObs, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values [B, 1], log-probabilities [B] of given actions [B, n], entropy [B]."""
        features, timestep = self._state(obs)
        mean = self.actor(features, timestep)
        log_prob = self._log_prob(mean, actions * self.raw_scale, timestep)
        entropy = self._gaussian(mean).entropy().sum(dim=1)
        return self.critic(features, timestep), log_prob, entropy

    def explore(self, mean: Tensor) -> Tensor:
        """Raw actions [B, n] drawn around their means."""
        noise = torch.randn_like(mean[:1]) if self.shared_noise else self.noise_like(mean)
        return mean + self.sigma * noise

    def get_distribution(self, obs: PyTorchObs) -> DiagGaussianDistribution:
        """Of the actions in box units, those that have no effect at the last step included."""
        mean = self.actor(*self._state(obs)) / self.raw_scale
        log_std = (self.sigma / self.raw_scale).log().expand_as(mean)
        return DiagGaussianDistribution(mean.shape[1]).proba_distribution(mean, log_std)

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Values [B, 1]."""
        return self.critic(*self._state(obs))

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        features, timestep = self._state(observation)
        mean = self.actor(features, timestep)
        raw = mean if deterministic else self.explore(mean)
        return (raw / self.raw_scale).clamp(-1, 1)

    def _state(self, obs: Any) -> tuple[Tensor, Tensor]:
        return self.features_extractor(obs)

    def _log_prob(self, mean: Tensor, raw: Tensor, timestep: Tensor) -> Tensor:
        """Log-density of raw actions [B, n], summed over those that have an effect: [B]."""
        each = self._gaussian(mean).log_prob(raw)  # [B, n]
        return each.masked_fill(self._idle[timestep], 0.0).sum(dim=1)

    def _gaussian(self, mean: Tensor) -> Normal:
        # What torch would check waits for an accelerator; numbers that are not finite end in a
        # loss, where they are seen.
        return Normal(mean, self.sigma, validate_args=False)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        inherited = super()._get_constructor_parameters()
        taken = inspect.signature(type(self).__init__).parameters
        return {name: value for name, value in inherited.items() if name in taken} | {
            "grid": self.grid,
            "hidden_size": self.hidden_size,
            "action_std": self.action_std,
            "adaptive": self.adaptive,
            "shared_noise": self.shared_noise,
            "raw_scale": self.raw_scale,
            "feature_size": self.feature_size,
            "idle_at_last": self.idle_at_last,
            "map_size": self.map_size,
        }


def _feature_size(space: spaces.Dict, places: int, given: int | None) -> int:
    """D: of the space's features, or as it is given."""
    if "slot" in space.spaces:
        if given is None:
            raise ValueError("feature_size: got none, allowed with handles is D of the features")
        return given
    flat = int(np.prod(space["features"].shape))  # type: ignore[arg-type]
    if flat % places:
        raise ValueError(
            f"grid: got {places} places, which must divide the {flat} numbers of the features"
        )
    return flat // places
