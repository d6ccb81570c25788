"""New samples for the discriminator, beside those of the rollout."""

import numpy as np
import torch
from torch import Tensor

from agents.learners.config import TrainConfig
from nat_env.bundles.bundle import Bundle
from nat_env.generation import generate
from nat_env.parallel.processes import Processes
from nat_env.policies import DecodingPolicy
from nat_env.seeds import FRESH_SAMPLES


def fresh_conditions(config: TrainConfig, num_conditions: int, number: int) -> Tensor:
    """Of the samples of one update [batch_size]: in a training each condition as often as any.

    Their order is drawn by the seed, so that conditions that are alike in the table, as captions of
    one thing are, come apart.

    Args:
        config: of the training.
        num_conditions: C of the bundle.
        number: of samples that were drawn in the training before.
    """
    rng = np.random.default_rng((FRESH_SAMPLES.seed_of(config.seed), num_conditions))
    order = torch.from_numpy(rng.permutation(num_conditions))
    return order[(number + torch.arange(config.discriminator.batch_size)) % num_conditions]


def fresh_images(
    config: TrainConfig,
    bundle: Bundle,
    policy: DecodingPolicy,
    labels: Tensor,
    number: int,
    processes: Processes,
) -> tuple[Tensor, Tensor]:
    """This process's images of new samples, and their labels.

    They are decoded in batches as large as the environment, of which each process has its rows.

    Args:
        config: of the training of all.
        bundle: the frozen models.
        policy: with its exploration noise.
        labels: of the samples of all processes [n].
        number: of samples that were drawn in the training before.
        processes: the processes.

    Returns:
        Images [n / world, C, H, W] in [0, 1] and labels [n / world].
    """
    images, kept = [], []
    for batch in labels.split(config.environments):
        rows = processes.slice_of(len(batch))
        seed, own = FRESH_SAMPLES.seed_of(config.seed, number + rows.start), batch[rows]
        images.append(generate(bundle, policy, own, config.num_steps, seed, len(own)))
        kept.append(own)
        number += len(batch)
    return torch.cat(images), torch.cat(kept)
