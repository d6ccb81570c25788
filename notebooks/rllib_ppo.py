"""RLlib's PPO on the decoding environment, through its vector entry point, and what it learned.

python notebooks/rllib_ppo.py --bundle digits --num-updates 100

In an environment of its own: pip install -r notebooks/rllib-requirements.txt, see docs/rllib.md.
"""

# pyright: reportMissingImports=false
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor, nn

import nat_env
from nat_env.episodes.observations import pooled
from nat_env.schedules import residual_schedule

try:
    import ray
    from ray.rllib.algorithms.ppo import PPO, PPOConfig
    from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
    from ray.rllib.core.rl_module import RLModuleSpec
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
except ImportError as error:
    needs = "pip install -r notebooks/rllib-requirements.txt"
    raise SystemExit(f"{error}; this example needs more: {needs}") from None


@dataclass(frozen=True)
class Args:
    """Learn m, tau_1, tau_2, w of every step."""

    bundle: str = "digits"
    num_steps: int = 4
    """T, decoding steps of an episode."""
    reward: str = "judge"
    """A reward's name; the judge's log-likelihood of the class needs nothing else."""
    num_envs: int = 64
    num_updates: int = 100
    epochs: int = 4
    learning_rate: float = 1e-2
    num_samples: int = 1000
    """Images by which the policy and the schedule that it starts from are compared at the end."""
    seed: int = 0


class Module(DefaultPPOTorchRLModule):
    """Starts at the residual schedule, with a narrow Gaussian that does not depend on the state."""

    def setup(self) -> None:
        """Build the networks."""
        super().setup()
        last = [layer for layer in self.pi.net.modules() if isinstance(layer, nn.Linear)][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        nn.init.constant_(self.pi.log_std, -1.2)


def env_config(args: Args) -> dict[str, Any]:
    """Of the vector environment, besides how many there are."""
    return {
        "bundle": args.bundle,
        "num_steps": args.num_steps,
        "observation": "pooled",
        "residual": "heuristic",
        "reward_fn": args.reward,
        "autoreset_mode": "NextStep",  # as RLlib's runners take a finished row
        "aligned": True,  # episodes of one length
    }


def make_config(args: Args) -> PPOConfig:
    """One rollout of whole episodes an update, all in this process."""
    return (
        PPOConfig()
        .environment("nat_env:NATDecode-v0", env_config=env_config(args))
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=args.num_envs,
            gym_env_vectorize_mode="vector_entry_point",
            # Not complete_episodes, which would repeat the seed's episodes in every rollout.
            rollout_fragment_length=args.num_steps,
        )
        .learners(num_learners=0)
        .rl_module(
            rl_module_spec=RLModuleSpec(
                module_class=Module,
                model_config=DefaultModelConfig(
                    fcnet_hiddens=[32], free_log_std=True, vf_share_layers=False
                ),
            )
        )
        .training(
            lr=args.learning_rate,
            gamma=1.0,
            lambda_=1.0,
            train_batch_size_per_learner=args.num_envs * args.num_steps,
            minibatch_size=args.num_envs * args.num_steps,
            num_epochs=args.epochs,
            clip_param=0.2,
            grad_clip=0.5,
            use_kl_loss=False,
            vf_clip_param=float("inf"),
            vf_loss_coeff=0.5,
        )
        .debugging(seed=args.seed, log_level="ERROR")
    )


def train(algorithm: PPO, num_updates: int) -> list[float]:
    """Gives the mean return of the rollout of each update."""
    history = []
    for update in range(num_updates):
        history.append(float(algorithm.train()["env_runners"]["episode_return_mean"]))
        if update % 10 == 9:
            print(f"update {update + 1}: mean return {np.mean(history[-10:]):.4f}", flush=True)
    return history


class ModulePolicy:
    """What RLlib has learned as decoding takes it: m, tau_1, tau_2, w of the Gaussian's mean."""

    def __init__(self, module: Any, args: Args, num_tokens: int) -> None:
        """Follow a module that was trained with `args` on images of `num_tokens` tokens."""
        self.module = module
        self.num_steps = args.num_steps
        schedule = residual_schedule("heuristic", args.num_steps, num_tokens)
        self.action_map = nat_env.ActionMap(schedule)

    @torch.no_grad()
    def __call__(self, features: Tensor, timestep: Tensor) -> Tensor:
        """Features [B, N, D] and timesteps [B] -> m, tau_1, tau_2, w [B, 4]."""
        seen = {"obs": pooled(features, timestep, self.num_steps)}
        # Means, then logarithms of deviations: [B, 8]
        mean = self.module.forward_inference(seen)["action_dist_inputs"][:, :4]
        return self.action_map.physical(mean.clamp(-1, 1), timestep)


def main() -> None:
    """Entry point."""
    args = tyro.cli(Args)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    algorithm = make_config(args).build_algo()
    train(algorithm, args.num_updates)

    bundle = nat_env.load_bundle(args.bundle)
    learned = ModulePolicy(algorithm.get_module(), args, bundle.num_tokens)
    heuristic = nat_env.ScheduledPolicy(nat_env.heuristic_schedule(args.num_steps))
    reward = nat_env.named_reward(args.reward, bundle)
    conditions = nat_env.balanced_conditions(args.num_samples, len(bundle.conditions))
    for name, policy in (("heuristic", heuristic), ("learned", learned)):
        images = nat_env.generate(bundle, policy, conditions, args.num_steps, seed=1_000_000)
        print(f"{name}: reward {float(reward(images, conditions).mean()):.4f}")
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
