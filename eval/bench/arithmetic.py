"""What a function computes: multiply-adds, matrix products, and how long those take at least."""

import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

Product = tuple[int, int, int, int]
"""How many matrices at once, and M, K, N of [M, K] x [K, N]."""

_ATTENTION: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


class MultiplyAdds:
    """Multiply-adds by phase, counted by torch."""

    def __init__(self) -> None:
        """Start at zero."""
        self.counts: Counter[str] = Counter()

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, adding its multiply-adds to the phase `name`; slow, so never timed."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            mapping = {_ATTENTION: _attention_flops}  # which torch's counter does not know
            with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
                result = function(*args, **kwargs)
            self.counts[name] += counter.get_total_flops() // 2
            return result

        return wrapped


class ProductRecorder(TorchDispatchMode):
    """While entered, counts matrix products by their shapes, those of attention among them."""

    def __init__(self) -> None:
        """Start with none."""
        super().__init__()
        self.products: Counter[Product] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Note what `func` multiplies, and call it."""
        aten: Any = torch.ops.aten
        operator = func.overloadpacket
        if operator in (aten.mm, aten.addmm):
            left, right = args[-2:]
            self.products[1, *left.shape, right.shape[1]] += 1
        elif operator is aten.bmm:
            left, right = args
            self.products[(*left.shape, right.shape[2])] += 1
        elif operator is _ATTENTION:
            query, key, value = args[:3]
            heads, length, keys = query.shape[:2].numel(), query.shape[2], key.shape[2]
            self.products[heads, length, query.shape[3], keys] += 1
            self.products[heads, length, keys, value.shape[3]] += 1
        return func(*args, **(kwargs or {}))


def least_seconds(product: Product, dtype: torch.dtype, repeats: int) -> float:
    """The fastest of `repeats` such products by torch, laid out as a linear layer's are."""
    matrices, rows, inner, columns = product
    left = torch.randn(matrices, rows, inner).to(dtype)
    right = torch.randn(matrices, columns, inner).to(dtype).transpose(1, 2)
    if matrices == 1:
        left, right = left[0], right[0]
    seconds = []
    for _ in range(repeats + 1):  # the first warms up
        started = time.perf_counter()
        torch.matmul(left, right)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


_best = lru_cache(maxsize=None)(least_seconds)  # the same for all that have such products


def ceiling_seconds(products: Counter[Product], dtype: torch.dtype, repeats: int) -> float:
    """What these products take at least, each at its own shape's best speed."""
    return sum(n * _best(product, dtype, repeats) for product, n in products.items())
