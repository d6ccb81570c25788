"""Memory of a piece of work, in a process of its own."""

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
    """Memory of a process in MB."""

    before: float
    """With everything loaded."""
    peak: float
    """While the work was done; of `held_memory`, after it."""

    @property
    def rise(self) -> float:
        """What the work itself took, 1 MB at least: below, the allocator's rounding is seen."""
        return max(self.peak - self.before, 1.0)


def peak_memory(prepare: Callable[..., Callable[[], Any]], *args: Any) -> Memory:
    """Resident memory while `prepare(*args)()` runs, in a fresh process.

    Args:
        prepare: a module's function, which loads and gives the work; done with as many torch
            threads as there are here.
        args: of it, that can be pickled.

    Raises:
        ValueError: a system that does not tell.
    """
    return _in_a_process(_peak, prepare, args)


def held_memory(prepare: Callable[..., Callable[[], Any]], *args: Any) -> Memory | None:
    """Anonymous memory after `prepare(*args)()`, with all that the work holds still there.

    Pages of files are none of it: the system takes those back when it needs room.

    Args:
        prepare: see `peak_memory`.
        args: likewise.

    Returns:
        None outside of Linux, which alone tells it.
    """
    return _in_a_process(_held, prepare, args) if _status("RssAnon") is not None else None


def _in_a_process(measure: Callable[..., Any], prepare: Callable[..., Any], args: Any) -> Any:
    # Not forked: this process's own peak would be inherited, and torch's threads would hang.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, torch.get_num_threads(), prepare, args).result()


def _peak(threads: int, prepare: Callable[..., Callable[[], Any]], args: Any) -> Memory:
    torch.set_num_threads(threads)
    work = prepare(*args)
    before = _resident("VmRSS")
    work()
    return Memory(before, _resident("VmHWM"))


def _held(threads: int, prepare: Callable[..., Callable[[], Any]], args: Any) -> Memory:
    torch.set_num_threads(threads)
    work = prepare(*args)
    before = _status("RssAnon")
    _result = work()  # kept until the end
    after = _status("RssAnon")
    assert before is not None and after is not None
    return Memory(before, after)


def _resident(field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process in MB; the peak for both outside of Linux."""
    found = _status(field)
    if found is not None:
        return found
    try:
        import resource
    except ImportError:
        raise ValueError(f"memory: {sys.platform} does not tell a process's peak") from None
    # Of Linux's ru_maxrss the program that started this one would be a part.
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 1024)


def _status(field: str) -> float | None:
    """A field of Linux's /proc/self/status in MB; None where there is none."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = [line.split() for line in status.read_text(encoding="utf-8").splitlines()]
    found = [int(words[1]) for words in lines if words and words[0] == f"{field}:"]
    return found[0] / 1024 if found else None
