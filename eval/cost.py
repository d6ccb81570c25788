"""What a decoding policy costs beside the transformer: multiply-adds and wall time.

`python -m eval.cost --policy RUN_FOLDER` prints the share of each part of sampling.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from eval.policies import chosen_bundle, named_policy
from nat_env.bundle import Bundle, balanced_conditions, load_bundle
from nat_env.generate import generate
from nat_env.policies import DecodingPolicy


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


_UNCOUNTED: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops
}
"""Operators that torch's counter does not know."""


@dataclass(frozen=True)
class Arguments:
    """Count multiply-adds and time of sampling: transformer, policy, tokenizer, and the rest."""

    policy: str = "heuristic"
    """heuristic, a schedule's file, or a run folder."""
    bundle: str | None = None
    """A bundle's name or folder; by default that of the run, or else fashion."""
    num_steps: int = 4
    """T, decoding steps."""
    batch_size: int = 128
    repeats: int = 5
    threads: int = 2
    """Torch threads."""


@dataclass
class Part:
    """Running totals of one part of sampling."""

    multiply_adds: float = 0.0
    seconds: float = 0.0

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, adding its multiply-adds here; slow, so never timed."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with FlopCounterMode(display=False, custom_mapping=_UNCOUNTED) as counter:
                result = function(*args, **kwargs)
            self.multiply_adds += counter.get_total_flops() / 2
            return result

        return wrapped

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, adding its seconds here."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            result = function(*args, **kwargs)
            self.seconds += time.perf_counter() - started
            return result

        return wrapped


def sampling_cost(
    bundle: Bundle, policy: DecodingPolicy, num_steps: int, batch_size: int, repeats: int
) -> tuple[dict[str, Part], float]:
    """Parts `transformer`, `policy`, `tokenizer`, and the seconds of all, per image on a CPU.

    The pass on the all-masked canvas is kept from an earlier batch, as in any longer sampling.

    Raises:
        ValueError: no images or no repeats.
    """
    if batch_size < 1 or repeats < 1:
        raise ValueError(f"batch_size, repeats: got {batch_size}, {repeats}, allowed is >= 1")
    conditions = balanced_conditions(batch_size, bundle.num_classes)
    parts = {name: Part() for name in ("transformer", "policy", "tokenizer")}
    passes, decode = bundle.nat.passes, bundle.tokenizer.decode

    def sample(measure: Callable[[Part, Callable[..., Any]], Any], seed: int) -> None:
        bundle.nat.passes = measure(parts["transformer"], passes)
        bundle.tokenizer.decode = measure(parts["tokenizer"], decode)
        try:
            measured = measure(parts["policy"], policy)
            generate(bundle, measured, conditions, num_steps, seed, batch_size)
        finally:
            bundle.nat.passes, bundle.tokenizer.decode = passes, decode

    generate(bundle, policy, conditions, num_steps, 0, batch_size)
    sample(Part.counted, 0)
    started = time.perf_counter()
    for repeat in range(repeats):
        sample(Part.timed, repeat)
    seconds = (time.perf_counter() - started) / (batch_size * repeats)
    per_image = {
        name: Part(part.multiply_adds / batch_size, part.seconds / (batch_size * repeats))
        for name, part in parts.items()
    }
    return per_image, seconds


def main() -> None:
    """Entry point."""
    arguments = tyro.cli(Arguments, prog="cost")
    torch.set_num_threads(arguments.threads)
    try:
        bundle = load_bundle(chosen_bundle((arguments.policy,), arguments.bundle))
        _, policy = named_policy(arguments.policy, bundle, arguments.num_steps)
        parts, seconds = sampling_cost(
            bundle, policy, arguments.num_steps, arguments.batch_size, arguments.repeats
        )
    except ValueError as error:
        raise SystemExit(f"cost: {error}") from None
    total = sum(part.multiply_adds for part in parts.values())
    rest = seconds - sum(part.seconds for part in parts.values())
    print(
        "| part | multiply-adds per image | share | wall time share |\n| --- | ---: | ---: | ---: |"
    )
    for name, part in parts.items():
        print(
            f"| {name} | {part.multiply_adds / 1e6:.2f} M | {part.multiply_adds / total:.2%} "
            f"| {part.seconds / seconds:.1%} |"
        )
    print(f"| sampling arithmetic and host | | | {rest / seconds:.1%} |")


if __name__ == "__main__":
    main()
