"""Peak memory of a piece of work, in a process of its own."""

import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process in MB."""

    before: float
    """With everything loaded."""
    peak: float

    @property
    def rise(self) -> float:
        """What the work itself took, 1 MB at least: below, the allocator's rounding is seen."""
        return max(self.peak - self.before, 1.0)


def peak_memory(prepare: Callable[..., Callable[[], Any]], *args: Any) -> Memory:
    """Memory while `prepare(*args)()` runs in a fresh process with as many torch threads as here.

    Args:
        prepare: a module's function, which loads and gives the work.
        args: of it, that can be pickled.
    """
    # Not forked: this process's own peak would be inherited, and torch's threads would hang.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, torch.get_num_threads(), prepare, args).result()


def _measured(threads: int, prepare: Callable[..., Callable[[], Any]], args: Any) -> Memory:
    torch.set_num_threads(threads)
    work = prepare(*args)
    before = _resident("VmRSS")
    work()
    return Memory(before, _resident("VmHWM"))


def _resident(field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process in MB; the peak for both outside of Linux."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = [line.split() for line in status.read_text(encoding="utf-8").splitlines()]
        found = [int(words[1]) for words in lines if words and words[0] == f"{field}:"]
        if found:
            return found[0] / 1024
    # Of Linux's ru_maxrss the program that started this one would be a part.
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 1024)
