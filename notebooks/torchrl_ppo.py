"""torchrl's PPO loss on the decoding environment, through torchrl's own wrapper.

python notebooks/torchrl_ppo.py --bundle digits --num-updates 50
"""

from dataclasses import dataclass

import gymnasium as gym
import torch
import tyro
from torch import nn

import nat_env  # noqa: F401 (registers NATDecode-v0)

try:
    from tensordict import TensorDict
    from tensordict.nn import NormalParamExtractor, TensorDictModule
    from torchrl.envs import GymWrapper
    from torchrl.envs.utils import ExplorationType, set_exploration_type
    from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE
except ImportError as error:
    raise SystemExit(f"{error}; this example needs more: pip install tensordict torchrl") from None


@dataclass(frozen=True)
class Args:
    """Learn m, tau_1, tau_2, w of every step."""

    bundle: str = "digits"
    num_steps: int = 4
    """T, decoding steps of an episode."""
    reward: str = "judge"
    """A reward's name; the judge's log-likelihood of the class needs nothing else."""
    num_envs: int = 64
    num_updates: int = 50
    epochs: int = 4
    learning_rate: float = 1e-2
    seed: int = 0


def make_env(args: Args, reward_fn: object = None) -> GymWrapper:
    """Finished rows are restarted by torchrl itself, so the autoreset mode is Disabled."""
    envs = gym.make_vec(
        "NATDecode-v0",
        args.num_envs,
        bundle=args.bundle,
        num_steps=args.num_steps,
        observation="pooled",
        residual="heuristic",
        reward_fn=reward_fn or args.reward,
        autoreset_mode="Disabled",
        aligned=True,  # a rollout ends where the first row does
    )
    return GymWrapper(envs)


def make_actor(size: int) -> ProbabilisticActor:
    """Squashed Gaussian of the four numbers of an action, which starts at the residual schedule."""
    last = nn.Linear(32, 8)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    extract = NormalParamExtractor(scale_mapping="biased_softplus_0.3")
    network = nn.Sequential(nn.Linear(size, 32), nn.Tanh(), last, extract)
    module = TensorDictModule(network, in_keys=["observation"], out_keys=["loc", "scale"])
    return ProbabilisticActor(
        module,
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal,  # on the box [-1, 1]
        return_log_prob=True,
    )


def train(env: GymWrapper, actor: ProbabilisticActor, args: Args) -> list[float]:
    """One rollout of whole episodes an update; gives the mean return of each."""
    size = env.observation_spec["observation"].shape[-1]
    critic = ValueOperator(nn.Sequential(nn.Linear(size, 32), nn.Tanh(), nn.Linear(32, 1)))
    advantage = GAE(gamma=1.0, lmbda=1.0, value_network=critic, average_gae=True)
    loss = ClipPPOLoss(actor, critic, clip_epsilon=0.2, entropy_bonus=False, critic_coeff=0.5)
    optimizer = torch.optim.Adam(loss.parameters(), lr=args.learning_rate)
    env.set_seed(args.seed)
    history = []
    for update in range(args.num_updates):
        with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
            rollout: TensorDict = env.rollout(args.num_steps, actor)  # type: ignore[assignment]
            history.append(float(rollout["next", "reward"].sum(dim=1).mean()))
        for _ in range(args.epochs):
            advantage(rollout)
            found = loss(rollout.reshape(-1))
            optimizer.zero_grad()
            (found["loss_objective"] + found["loss_critic"]).backward()
            nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
            optimizer.step()
        if update % 10 == 9:
            print(f"update {update + 1}: mean return {sum(history[-10:]) / 10:.4f}", flush=True)
    return history


def main() -> None:
    """Entry point."""
    args = tyro.cli(Args)
    torch.manual_seed(args.seed)
    env = make_env(args)
    train(env, make_actor(env.observation_spec["observation"].shape[-1]), args)


if __name__ == "__main__":
    main()
