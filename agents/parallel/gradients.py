"""Gradients averaged over all processes, in any training loop.

A loop of another library calls `backward`, shortens the gradient and takes a step. What has to
happen between the first and the second is done by hooks of the parameters, so that the loop, and
how the module is called, stay as they are: wrapped in DistributedDataParallel it would have to be
called by `forward`, which stable-baselines3 does not.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nat_env.parallel.processes import Processes


@torch.no_grad()
def share_gradients(
    module: nn.Module, processes: Processes, due: Callable[[], bool] = lambda: True
) -> None:
    """Give all processes the first one's parameters, and from now on the same mean gradients.

    With as large a batch on each they then take the steps of one process with all of it. They
    exchange one message for a backward pass, when the last of the parameters has its gradient.

    Args:
        module: its parameters that have gradients are shared. Each backward pass has to reach all
            of them, and there have to be as many on every process: they wait for one another.
        processes: the processes.
        due: whether the gradient of the backward pass that is under way is whole; False where
            others are added to it before a step is taken.
    """
    if not processes.connected:
        return
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    waiting: set[Tensor] = set(parameters.values())

    def average(parameter: Tensor) -> None:
        if not due():
            return
        if parameter not in waiting:
            names = [name for name, other in parameters.items() if other in waiting]
            raise RuntimeError(f"a backward pass did not reach {', '.join(names)}: not shared")
        waiting.remove(parameter)
        if waiting:
            return
        waiting.update(parameters.values())
        gradients = [p.grad for p in parameters.values() if p.grad is not None]
        mean = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(mean)
        mean /= processes.count
        for gradient, part in zip(
            gradients, mean.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    for parameter in parameters.values():
        dist.broadcast(parameter, 0)
        parameter.register_post_accumulate_grad_hook(average)
