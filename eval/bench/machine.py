"""What the machine can do at best, which is what speeds are to be compared with."""

import time

import torch

from eval.bench.arithmetic import least_seconds
from eval.bench.report import Row
from nat_env.commands.machine import machine


def ceilings(sizes: tuple[int, ...], copied_mb: int, repeats: int) -> Row:
    """The machine and its measured ceilings.

    Args:
        sizes: of square matrix products; the fastest counts.
        copied_mb: size of the copied block, beyond the caches.
        repeats: of each; the fastest counts.

    Returns:
        Names, versions, threads, `float32_gflops` and `bfloat16_gflops` (a multiply-add is two),
        and `copy_gb_per_second` (bytes read plus bytes written).
    """
    about = machine()
    for dtype in (torch.float32, torch.bfloat16):
        best = max(2 * n**3 / least_seconds((1, n, n, n), dtype, repeats) for n in sizes)
        about[f"{str(dtype).removeprefix('torch.')}_gflops"] = best / 1e9
    source = torch.zeros(copied_mb * 2**20, dtype=torch.uint8)
    target = torch.ones_like(source)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - started)
    about["copy_gb_per_second"] = 2 * len(source) / min(seconds) / 1e9
    return about
