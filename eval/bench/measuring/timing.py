"""Seconds by turns, multiply-adds, and how many of them a device makes in a second at most."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch.utils import benchmark
from torch.utils.benchmark import Measurement, TaskSpec, Timer
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from eval.bench.measuring.phases import Phases

SIZES = {"cpu": (512, 1024, 2048)}
"""Of the square matrices that a ceiling is of, by the kind of device."""
_SIZES = (4096, 8192, 16384)


def by_turns(
    works: Mapping[str, Callable[[], Any]], repeats: int, untimed: bool = True
) -> dict[str, Measurement]:
    """Seconds of a call of each, the works by turns, so that a drift of the machine hits all.

    At each of `repeats` turns every work is called once untimed, unless that is not wanted, and
    once timed. An accelerator has finished before a call and after it.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            if untimed:
                work()
            started = benchmark.timer()
            work()
            times[name].append(benchmark.timer() - started)
    return {
        name: Measurement(
            1, spent, TaskSpec("work()", "", label=name, num_threads=torch.get_num_threads())
        )
        for name, spent in times.items()
    }


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
def most_per_second(
    dtype: torch.dtype, sizes: tuple[int, ...] | None = None, device: str = "cpu"
) -> float:
    """Multiply-adds per second of the fastest of some products of two square matrices.

    Of random numbers: a product of ones draws less power, and an accelerator makes it faster.
    """

    def least_seconds(size: int) -> float:
        a, b = torch.randn(2, size, size, device=device).to(dtype)
        timer = Timer("a @ b", globals={"a": a, "b": b}, num_threads=torch.get_num_threads())
        return min(timer.blocked_autorange(min_run_time=0.3).times)

    return max(
        size**3 / least_seconds(size)
        for size in sizes or SIZES.get(torch.device(device).type, _SIZES)
    )
