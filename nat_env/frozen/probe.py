"""How many rows a pass of a network takes at once, by the memory that an accelerator has."""

from collections.abc import Callable
from typing import Any

import torch

TRIED = 8
"""Rows of the pass by which memory is measured."""


def rows_that_fit(
    run: Callable[[int], Any], device: torch.device, at_most: int, share: float = 0.25
) -> int:
    """A power of two of rows whose pass takes no more than a share of the memory that is free.

    Args:
        run: makes a pass of so many rows.
        device: of the pass. On anything but CUDA, which tells what a pass takes, it is `at_most`.
        at_most: rows beyond which a pass is no faster by the row.
        share: of the memory that is free.
    """
    if device.type != "cuda":
        return at_most
    for _ in range(2):  # the first one makes what is made once
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run(TRIED)
    a_row = (torch.cuda.max_memory_allocated(device) - before) / TRIED
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + unused
    return min(at_most, power_of_two(share * free / max(a_row, 1)))


def power_of_two(number: float) -> int:
    """The largest that is no more; 1 of what is less.

    Example:
        >>> power_of_two(100.0), power_of_two(64.0), power_of_two(0.5)
        (64, 64, 1)
    """
    return 1 << max(0, int(number).bit_length() - 1)
