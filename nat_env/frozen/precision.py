"""Networks compute in the precision that they were made for, whatever torch's settings are."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


@contextmanager
def float32_default() -> Iterator[None]:
    """Networks that are made here have float32 weights, also under another default dtype.

    Example:
        >>> with float32_default():
        ...     torch.nn.Linear(1, 1).weight.dtype
        torch.float32
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Inside, a caller's `torch.autocast` on this device has no effect.

    What a frozen network says of an image would depend on it otherwise.
    """
    known = torch.amp.is_autocast_available(device.type)
    if known and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
