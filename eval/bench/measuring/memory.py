"""Memory of a process, and of the accelerator that it computes on."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Memory(NamedTuple):
    """Resident memory of a process in MB."""

    start: float
    """With everything loaded."""
    peak: float
    """While the work was done."""
    accelerator: float | None = None
    """Of the accelerator's, at most of all that torch had allocated there at a time; None where
    there is none, or torch does not tell."""

    @property
    def rise(self) -> float:
        """What the work itself took, 1 MB at least: below, the allocator's rounding is seen."""
        return max(self.peak - self.start, 1.0)


def peak_memory(prepare: Callable[..., Callable[[], Any]], *args: Any) -> Memory:
    """Memory of `prepare(*args)()` in a fresh process.

    `prepare` is a module's function, which loads and gives the work. NaN outside of Linux, which
    alone tells the peak of a process that another one started.
    """
    return measured_apart(prepare, *args)[0]


def measured_apart(prepare: Callable[..., Callable[[], Any]], *args: Any) -> tuple[Memory, Any]:
    """What `peak_memory` gives, and what `prepare(*args)()` gave, which has to be picklable."""
    # Not forked: this process's own peak would be inherited, and torch's threads would hang.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        settings = (
            torch.get_num_threads(),
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
        )
        return pool.submit(_measured, settings, prepare, args).result()


def _measured(
    settings: tuple[int, str, bool], prepare: Callable[..., Callable[[], Any]], args: Any
) -> tuple[Memory, Any]:
    threads, products, torch.backends.cudnn.allow_tf32 = settings  # of the process that asks
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(products)
    work = prepare(*args)
    start = resident("VmRSS")
    forget_accelerator_peak()
    found = work()
    return Memory(start, resident("VmHWM"), accelerator_peak()), found


def forget_accelerator_peak() -> None:
    """From here on `accelerator_peak` is of what follows."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def accelerator_peak() -> float | None:
    """MB that torch has allocated on the CUDA device at most; None where it has not been used."""
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_initialized() else None


def resident(field: str) -> float:
    """MB by a field of Linux's /proc/self/status; NaN elsewhere."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return float("nan")
    lines = map(str.split, status.read_text(encoding="utf-8").splitlines())
    return next(int(words[1]) for words in lines if words[0] == f"{field}:") / 1024
