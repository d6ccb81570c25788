"""Gradients averaged over all processes, in any training loop.

A loop of another library calls `backward`, shortens the gradient and takes a step. What has to
happen between the first and the second is done by a hook of each parameter, so that the loop, and
how the module is called, stay as they are: wrapped in DistributedDataParallel it would have to be
called by `forward`, which stable-baselines3 does not.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from agents.parallel.ranks import Ranks


@torch.no_grad()
def share_gradients(
    module: nn.Module, ranks: Ranks, due: Callable[[], bool] = lambda: True
) -> None:
    """Give all processes the first one's parameters, and from now on the same mean gradients.

    With as large a batch on each they then take the steps of one process with all of it.

    Args:
        module: its parameters that have gradients are shared; each needs as many backward passes
            on every process, or they wait for one another for ever.
        ranks: the processes.
        due: whether the gradient of the backward pass that is under way is whole; False where
            others are added to it before a step is taken.
    """
    if not ranks.connected:
        return

    def average(parameter: Tensor) -> None:
        if due() and parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= ranks.world

    for parameter in module.parameters():
        if parameter.requires_grad:
            dist.broadcast(parameter, 0)
            parameter.register_post_accumulate_grad_hook(average)
