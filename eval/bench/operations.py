"""What a piece of work's time is spent on, by kind of operation, as torch's profiler sees it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from eval.bench.loops import Around

KINDS: dict[str, tuple[str, ...]] = {
    "attention": ("scaled_dot_product", "softmax"),
    "matrix_products": ("addmm", "::mm", "bmm"),
    "convolution": ("conv",),
    "layer_norm": ("layer_norm",),
    "gelu": ("gelu",),
    "copies": ("copy_", "::cat", "::index", "::stack", "gather", "scatter"),
    "arithmetic": ("::add", "::sub", "::mul", "::div", "lerp", "::sum", "::sqrt", "addc", "adam"),
}
"""Kinds of operations by what their names have in them; the first that fits counts."""


def operation_shares(work: Callable[[], Any]) -> dict[str, float]:
    """The shares of `KINDS`, and of what is none of them, in the seconds of the CPU's operations.

    Args:
        work: that has been done before, for the first time is another matter.

    Example:
        >>> matrix = torch.ones(2000, 2000)
        >>> shares = operation_shares(lambda: matrix @ matrix)
        >>> max(shares, key=shares.get), round(sum(shares.values()), 6)
        ('matrix_products_share', 1.0)
    """
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        work()
    seconds = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in profiler.key_averages():
        name = event.key.lower()
        fitting = (kind for kind, parts in KINDS.items() if any(part in name for part in parts))
        seconds[next(fitting, "other")] += event.self_cpu_time_total
    whole = sum(seconds.values())
    return {f"{kind}_share": spent / whole for kind, spent in seconds.items()}


def nat_calls(decode: Callable[[Around], None]) -> Callable[[], None]:
    """The NAT's calls of one batch, to be made again."""
    calls: list[Callable[[], Any]] = []

    def recorded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            calls.append(partial(function, *args, **kwargs))
            return function(*args, **kwargs)

        return wrapped if name == "nat" else function

    decode(recorded)

    @torch.no_grad()
    def again() -> None:
        for call in calls:
            call()

    return again
