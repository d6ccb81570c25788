"""A learner of stable-baselines3's in several processes, by what it lets one set from outside."""

from collections.abc import Callable

from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor

from agents.learners.buffers import EpisodeRolloutBuffer
from agents.learners.optimizer import AccumulatingAdam
from agents.learners.policy import AdaNATPolicy
from agents.parallel.gradients import share_gradients
from nat_env.parallel.processes import Processes


def own_noise(processes: Processes) -> Callable[[Tensor], Tensor]:
    """Standard normal numbers like a tensor [B, ...]: the own rows of those of all processes.

    All of them draw for all, from global generators that so stay alike: a row explores by the same
    numbers on whichever process it is.

    Example:
        >>> import torch
        >>> state = torch.get_rng_state()
        >>> whole = torch.randn(4, 2)
        >>> torch.set_rng_state(state)
        >>> torch.equal(own_noise(Processes(1, 2))(torch.zeros(2, 2)), whole[2:])
        True
    """

    def draw(like: Tensor) -> Tensor:
        whole = like.new_empty(len(like) * processes.count, *like.shape[1:]).normal_()
        return whole[processes.slice_of(len(whole))]

    return draw


class OwnRows(DiagGaussianDistribution):
    """stable-baselines3's Gaussian with noise from `own_noise`."""

    def __init__(self, action_dim: int, processes: Processes) -> None:
        """Of actions of so many numbers."""
        super().__init__(action_dim)
        self.draw = own_noise(processes)

    def sample(self) -> Tensor:
        """Actions [B, action_dim]."""
        gaussian = self.distribution
        return gaussian.mean + gaussian.stddev * self.draw(gaussian.mean)


def share_learner(model: OnPolicyAlgorithm, processes: Processes) -> None:
    """Let all processes learn as one: gradients, exploration and the scale of returns.

    The loops of stable-baselines3 stay as they are.

    Raises:
        ValueError: it explores by something else than a Gaussian.
    """
    if not processes.connected:
        return
    policy = model.policy
    optimizer = policy.optimizer
    if isinstance(optimizer, AccumulatingAdam):
        share_gradients(policy, processes, lambda: optimizer.steps_next)
    else:
        share_gradients(policy, processes)
    if isinstance(policy, AdaNATPolicy):
        policy.noise_like = own_noise(processes)
    elif type(policy.action_dist) is DiagGaussianDistribution:
        policy.action_dist = OwnRows(policy.action_dist.action_dim, processes)
    else:
        kind = type(getattr(policy, "action_dist", None)).__name__
        raise ValueError(
            f"algo: got one that explores by {kind}, allowed with several processes is "
            "DiagGaussianDistribution"
        )
    if isinstance(model.rollout_buffer, EpisodeRolloutBuffer):
        model.rollout_buffer.summed = processes.summed
