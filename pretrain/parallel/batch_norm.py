"""Batch normalisation over the batch of all processes, on any device."""

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn


class WholeBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics in training are those of all processes' rows.

    `nn.SyncBatchNorm` does so on GPUs alone. Processes have as many rows each.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [b, C, H, W]."""
        if not self.training:
            return super().forward(input)
        processes = torch.distributed.get_world_size()
        x = input.float()
        mean = _mean_over_processes(x.mean(dim=(0, 2, 3)))  # [C]
        centred = x - mean[:, None, None]
        variance = _mean_over_processes(centred.square().mean(dim=(0, 2, 3)))  # [C]
        count = processes * x.numel() / x.shape[1]
        assert self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None and self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


def with_whole_batch_norms(network: nn.Module) -> nn.Module:
    """The network with a `WholeBatchNorm` in the place of each batch norm, of the same tensors."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            norm = WholeBatchNorm(child.num_features, child.eps, child.momentum)
            norm.load_state_dict(child.state_dict())
            setattr(network, name, norm.to(child.weight.device))
        else:
            with_whole_batch_norms(child)
    return network


class _MeanOverProcesses(torch.autograd.Function):
    """Of what each has. Its gradient is that of all processes' losses, and of the same form."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total / torch.distributed.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _mean_over_processes(*gradients)


def _mean_over_processes(values: Tensor) -> Tensor:
    mean = _MeanOverProcesses.apply(values.contiguous())
    assert isinstance(mean, Tensor)
    return mean
