"""What a training pays for: a reward of the environment itself, or a discriminator's."""

from pathlib import Path

import torch
from gymnasium.vector import VectorEnv

from agents.learners.config import TrainConfig
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.discriminator_reals import discriminator_reals
from nat_env.parallel.processes import Processes
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.names import RewardChoice
from nat_env.rewards.trunks import load_trunk
from nat_env.vector_env import NATDecodeVectorEnv
from nat_env.wrappers.adversarial import AdversarialReward
from nat_env.wrappers.passes import PassDiscount, StepCost


def environment_reward(config: TrainConfig, bundle: Bundle) -> RewardChoice:
    """Of the environment; where a discriminator stands in for it, only reported beside."""
    if config.reward == "adversarial" and bundle.yardstick is None:
        return lambda images, conditions: torch.zeros(len(images))
    return config.fixed_reward


def with_discriminator(
    config: TrainConfig, decoder: NATDecodeVectorEnv, processes: Processes
) -> AdversarialReward:
    """`decoder`, paying what a new discriminator thinks of its images.

    Args:
        config: this process's share of the training's.
        decoder: its environment.
        processes: the processes that train the discriminator together.

    Raises:
        ValueError: see `discriminator_reals`, `load_trunk` and `AdversarialRewardModel`.
    """
    bundle = decoder.bundle
    real_folder = Path(config.real_folder) if config.real_folder else None
    model = AdversarialRewardModel(
        discriminator_reals(bundle, config.reals, real_folder, config.real_crop),
        len(bundle.conditions),
        config.discriminator,
        config.seed,
        load_trunk(
            config.discriminator.trunk,
            bundle,
            config.discriminator.trunk_path,
            config.discriminator.trunk_resolution,
        ),
        bundle.device,
        bundle.conditions.pooled,
        processes,
    )
    return AdversarialReward(
        decoder,
        model,
        bypass=config.bypass_discriminator,
        capacity=0 if config.fresh_samples else config.trajectories_per_round,
    )


def paying_for_passes(config: TrainConfig, env: VectorEnv) -> VectorEnv:
    """`env`, whose reward is of quality and passes where `config` asks for it."""
    if config.pass_discount < 1:
        env = PassDiscount(env, config.pass_discount)
    return StepCost(env, config.step_cost) if config.step_cost else env
