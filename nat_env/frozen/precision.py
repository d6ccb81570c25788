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


@contextmanager
def full_float32() -> Iterator[None]:
    """Inside, products of float32 numbers are of float32, not of TensorFloat-32's 10 bits.

    A process may allow TF32 for a training; what a judge says of an image must not depend on it.
    The settings are torch's for the whole process: put back afterwards.

    Example:
        >>> with full_float32():
        ...     torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        ('highest', False)
    """
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Inside, a caller's `torch.autocast` on this device has no effect.

    What a frozen network says of an image would depend on it otherwise.
    """
    known = torch.amp.is_autocast_available(device.type)
    if known and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
