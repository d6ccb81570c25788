"""From the host to an accelerator without waiting for it."""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; of the host's the caller does not wait until it has arrived.

    Example:
        >>> sent(torch.arange(2), torch.device("cpu"))
        tensor([0, 1])
    """
    if (
        device.type == "cuda" and tensor.device.type == "cpu"
    ):  # from pinned memory alone is a copy made beside other work
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
