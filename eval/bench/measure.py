"""How things are measured: by turns, by phase, in multiply-adds, and in a process's memory."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch.utils import benchmark
from torch.utils.benchmark import Measurement, Timer
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def by_turns(works: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Measurement]:
    """Seconds of a call of each, the works by turns, so that a drift of the machine hits all.

    At each of `repeats` turns every work is called once untimed and once timed.
    """
    timers = [
        Timer("work()", globals={"work": work}, label=name, num_threads=torch.get_num_threads())
        for name, work in works.items()
    ]
    turns = [timer.blocked_autorange(min_run_time=0) for _ in range(repeats) for timer in timers]
    return {measured.label: measured for measured in Measurement.merge(turns)}


class Phases:
    """What calls take, by phase; what a phase takes inside of another counts once, as its own."""

    def __init__(self, meter: Callable[[], float] = benchmark.timer) -> None:
        """Start at zero; `meter` tells what has been taken so far, by default seconds."""
        self.totals: defaultdict[str, float] = defaultdict(float)
        self._meter = meter
        self._inside = 0.0  # of the phases that ended inside of the one that runs

    def of(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, adding what its calls take to the phase `name`."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            outside, self._inside = self._inside, 0.0
            started = self._meter()
            try:
                return function(*args, **kwargs)
            finally:
                taken = self._meter() - started
                self.totals[name] += taken - self._inside
                self._inside = outside + taken

        return wrapped

    @contextmanager
    def watching(self, *watched: tuple[str, Any, str]) -> Iterator[None]:
        """For a while: a phase, and whose method or function by which name belongs to it."""
        with ExitStack() as stack:
            for phase, owner, name in watched:
                stack.enter_context(patch.object(owner, name, self.of(phase, getattr(owner, name))))
            yield

    def shares(self, *names: str) -> dict[str, float]:
        """Of each of these phases in their sum, by `name_share`."""
        whole = sum(self.totals[name] for name in names)
        return {f"{name}_share": self.totals[name] / whole for name in names}


def multiply_adds(work: Callable[[Phases], Any]) -> dict[str, float]:
    """Multiply-adds of matrix products, attention and convolutions by phase of `work`."""

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    # The CPU's kernel, which torch's counter does not know.
    fused: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={fused: attention}) as counter:
        phases = Phases(lambda: counter.get_total_flops() / 2)
        work(phases)
    return phases.totals


@lru_cache
def most_per_second(dtype: torch.dtype, sizes: tuple[int, ...] = (512, 1024, 2048)) -> float:
    """Multiply-adds per second of the fastest of some products of two square matrices."""

    def least_seconds(size: int) -> float:
        names = {"a": torch.ones(size, size, dtype=dtype), "b": torch.ones(size, size, dtype=dtype)}
        timer = Timer("a @ b", globals=names, num_threads=torch.get_num_threads())
        return min(timer.blocked_autorange(min_run_time=0.3).times)

    return max(size**3 / least_seconds(size) for size in sizes)


class Memory(NamedTuple):
    """Resident memory of a process in MB."""

    start: float
    """With everything loaded."""
    peak: float
    """While the work was done."""

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
        return pool.submit(_measured, torch.get_num_threads(), prepare, args).result()


def _measured(
    threads: int, prepare: Callable[..., Callable[[], Any]], args: Any
) -> tuple[Memory, Any]:
    torch.set_num_threads(threads)
    work = prepare(*args)
    start = _resident("VmRSS")
    found = work()
    return Memory(start, _resident("VmHWM")), found


def _resident(field: str) -> float:
    status = Path("/proc/self/status")
    if not status.is_file():
        return float("nan")
    lines = map(str.split, status.read_text(encoding="utf-8").splitlines())
    return next(int(words[1]) for words in lines if words[0] == f"{field}:") / 1024
