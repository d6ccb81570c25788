"""The frozen NAT as decoding sees it: two logits and one feature map per canvas."""

import math
import os
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from nat_env.frozen.precision import without_autocast
from nat_env.frozen.probe import TRIED, rows_that_fit
from nat_env.frozen.protocol import MaskedTransformer
from nat_env.frozen.transfers import sent

FIRST_PASSES_KEPT = 1024
"""Conditions whose pass on the all-masked canvas is kept; the one that was not asked for longest
makes room."""

ROWS_ON_A_CPU, ROWS_ON_AN_ACCELERATOR = 128, 2048
"""Of a pass, at most."""


class Passes(NamedTuple):
    """What one step needs of the NAT: the conditional and the null pass on the same ids."""

    logits: Tensor
    """[B, N, K], conditional."""
    null_logits: Tensor
    """[B, N, K], with the null condition."""
    features: Tensor
    """[B, M, D] float32, of the conditional pass."""

    def rows(self, index: Tensor) -> "Passes":
        """The rows `index` [R], in ascending order; without a copy if they are all."""
        if len(index) == len(self.features):
            return self
        at = sent(index, self.features.device)
        return Passes(*(part[at] for part in self))

    def put(self, index: Tensor, other: "Passes") -> "Passes":
        """`other` at the rows `index`, in ascending order, and these rows elsewhere."""
        if len(index) == len(self.features):
            return other
        at = sent(index, self.features.device)
        return Passes(*(a.index_copy(0, at, b) for a, b in zip(self, other, strict=True)))


@dataclass(eq=False)
class FrozenNAT:
    """A masked transformer in inference."""

    transformer: MaskedTransformer
    null_condition: int
    """Stands for none: the last row of the table of conditions."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    """The transformer is moved there and to this, in place."""
    rows_per_pass: int = 0
    """Rows of one forward call; 0: as the device has it. On a CPU, chunks that fit its caches are
    faster than one large batch; an accelerator takes what fits its memory, see `rows_that_fit`."""
    compiled: bool = False
    """Whether the transformer is compiled by `torch.compile`, at its first pass."""

    def __post_init__(self) -> None:
        """Freeze the transformer.

        Raises:
            ValueError: what it says of itself is missing or does not fit together.
        """
        _check(self.transformer)
        _compute_alone_after_fork()
        self.transformer.to(device=self.device, dtype=self.dtype)
        self.transformer.eval()
        self.transformer.requires_grad_(False)
        self._network = self.transformer
        if not self.rows_per_pass:
            self.rows_per_pass = self._suitable_rows()
        if self.compiled:
            self._network = torch.compile(self.transformer)  # type: ignore[arg-type, call-overload]
        self.forget_first_passes()

    @property
    def num_tokens(self) -> int:
        """N."""
        return self.transformer.num_tokens

    @property
    def codebook_size(self) -> int:
        """K."""
        return self.transformer.codebook_size

    @property
    def mask_id(self) -> int:
        """The id of a masked token."""
        return self.transformer.mask_id

    @property
    def feature_grid(self) -> tuple[int, int]:
        """Places of the features along height and width, M in all."""
        return self.transformer.feature_grid

    @property
    def feature_size(self) -> int:
        """D."""
        return self.transformer.feature_size

    @property
    def feature_bound(self) -> float:
        """No feature's absolute value is above; infinite where the transformer does not say."""
        return float(getattr(self.transformer, "feature_bound", math.inf))

    def forget_first_passes(self) -> None:
        """Free what `first_passes` keeps: logits [N, K] and features [M, D] for each condition."""
        self._rows: OrderedDict[int, int] = OrderedDict()
        self._first: tuple[Tensor, ...] = ()

    @torch.no_grad()
    def passes(self, ids: Tensor, condition: Tensor) -> Passes:
        """Conditional and null pass on ids [B, N] with conditions [B], their rows in one batch."""
        batch, condition = len(ids), sent(condition, self.device)
        null = torch.full_like(condition, self.null_condition)
        logits, features = self._forward(torch.cat([ids, ids]), torch.cat([condition, null]))
        return Passes(logits[:batch], logits[batch:], features[:batch].float())

    @torch.no_grad()
    def first_passes(self, condition: Tensor) -> Passes:
        """The passes on the all-masked canvas, which depend on the condition alone: kept for each.

        Logits [N, K] and features [M, D] in the transformer's dtype: 1 MB a condition in bfloat16
        at the papers' size S, at most `FIRST_PASSES_KEPT` of them, or as many as were asked for at
        once. `forget_first_passes` frees them.

        Args:
            condition: [B] int64. On the host: what is on an accelerator has to be waited for.

        Raises:
            ValueError: conditions that are not int64, or out of range.
        """
        wanted = condition.tolist()
        if (
            condition.dtype != torch.int64
            or not 0 <= min(wanted) <= max(wanted) <= self.null_condition
        ):
            raise ValueError(
                f"condition: got {condition.dtype} in {min(wanted)} .. {max(wanted)}, allowed are "
                f"int64 in 0 .. {self.null_condition}"
            )
        self._keep([*wanted, self.null_condition])
        logits, features = self._first
        rows = sent(torch.tensor([self._rows[number] for number in wanted]), self.device)
        null_logits = logits[self._rows[self.null_condition]]
        return Passes(logits[rows], null_logits.expand(len(rows), -1, -1), features[rows].float())

    def _keep(self, needed: list[int]) -> None:
        """Have the first passes of these conditions in the table `_first`, in rows `_rows`."""
        needed = list(dict.fromkeys(needed))
        missing = sorted(set(needed) - self._rows.keys())
        for number in needed:
            if number in self._rows:
                self._rows.move_to_end(number)
        if not missing:
            return
        canvas = torch.full((len(missing), self.num_tokens), self.mask_id, device=self.device)
        found = self._forward(canvas, sent(torch.tensor(missing), self.device))
        kept = max(FIRST_PASSES_KEPT, len(needed))
        surplus = len(self._rows) + len(missing) - kept
        free = [self._rows.popitem(last=False)[1] for _ in range(surplus)]
        size = len(self._first[0]) if self._first else 0
        free += set(range(size)) - {*self._rows.values(), *free}
        if len(free) < len(missing):
            larger = min(max(2 * size, size + len(missing) - len(free)), kept)
            self._first = tuple(
                torch.cat([*self._first[i : i + 1], part.new_empty(larger - size, *part.shape[1:])])
                for i, part in enumerate(found)
            )
            free += range(size, larger)
        rows = free[: len(missing)]
        at = sent(torch.tensor(rows), self.device)
        for table, part in zip(self._first, found, strict=True):
            table.index_copy_(0, at, part)  # never over the null condition's row, which is in use
        self._rows |= zip(missing, rows, strict=True)

    def opening_passes(self, condition: Tensor, canvases: Tensor | None = None) -> Passes:
        """The passes on what decoding starts from: the kept ones where all is masked.

        Args:
            condition: [B] int64, see `first_passes`.
            canvases: [B, N]; None: all are empty.

        Raises:
            ValueError: see `first_passes`.
        """
        if canvases is None:
            return self.first_passes(condition)
        partly = (canvases != self.mask_id).any(dim=1).cpu()
        given, empty = (rows.nonzero()[:, 0] for rows in (partly, ~partly))
        if not len(given):
            return self.first_passes(condition)
        on_given = self.passes(canvases[sent(given, self.device)], condition[given])
        if not len(empty):
            return on_given
        order = sent(torch.cat([empty, given]).argsort(), self.device)
        both = zip(self.first_passes(condition[empty]), on_given, strict=True)
        return Passes(*(torch.cat(parts)[order] for parts in both))

    def _suitable_rows(self) -> int:
        if self.device.type == "cpu":
            return ROWS_ON_A_CPU
        canvas = torch.full((TRIED, self.num_tokens), self.mask_id, device=self.device)
        null = torch.full((TRIED,), self.null_condition, device=self.device)
        with torch.no_grad():
            return rows_that_fit(
                lambda rows: self.transformer(canvas[:rows], null[:rows]),
                self.device,
                ROWS_ON_AN_ACCELERATOR,
            )

    def _forward(self, ids: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [R, N, K] and features [R, M, D], in chunks of `rows_per_pass`.

        Raises:
            ValueError: the transformer gives other shapes than it says, numbers that are not
                finite, or no code that is allowed.
        """
        chunks = zip(
            ids.split(self.rows_per_pass), condition.split(self.rows_per_pass), strict=True
        )
        with without_autocast(self.device):
            outputs = [self._network(*chunk) for chunk in chunks]
        logits, features = zip(*((o.logits, o.features) for o in outputs), strict=True)
        rows, places = len(outputs[0].logits), math.prod(self.feature_grid)
        for name, first, allowed in (
            ("logits", logits[0], (rows, self.num_tokens, self.codebook_size)),
            ("features", features[0], (rows, places, self.feature_size)),
        ):
            if first.shape != allowed:
                raise ValueError(
                    f"transformer: gave {name} {tuple(first.shape)}, allowed is {allowed} by its "
                    "num_tokens, codebook_size, feature_grid and feature_size"
                )
        return self._finite(torch.cat(logits), torch.cat(features))

    def _finite(self, logits: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Both, checked: of logits, -inf forbids a code, and everything else is finite."""
        # Whatever is not finite makes the sum so: one cheap pass where all is well.
        total = logits.sum(dtype=torch.float32) + features.sum(dtype=torch.float32)
        if bool(total.isfinite()):
            return logits, features
        wrong = {
            # The largest of a row tells of NaN, of +inf, and of -inf alone.
            "logits": not bool(logits.amax(dim=-1).isfinite().all()),
            "features": not bool(features.isfinite().all()),
        }
        for name in [name for name in wrong if wrong[name]]:
            allowed = {"logits": "numbers, and -inf at some codes", "features": "finite numbers"}
            raise ValueError(
                f"{name}: the transformer gave NaN, or what is infinite, in "
                f"{str(self.dtype).removeprefix('torch.')}, allowed are {allowed[name]}; what is "
                "too large for float16 may fit bfloat16 or float32"
            )
        return logits, features


@cache
def _compute_alone_after_fork() -> None:
    """Give forked processes one torch thread, as `gym.make_vec(..., "async")` makes them.

    A child has none of the threads that its parent had started, and would wait for them for ever.
    Registered by the first frozen model, which is what starts them, and not by an import.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def _check(transformer: MaskedTransformer) -> None:
    numbers = {
        name: getattr(transformer, name, None)
        for name in ("num_tokens", "codebook_size", "feature_size")
    }
    for name, value in numbers.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"transformer: got {name} = {value!r}, allowed are integers >= 1")
    grid = getattr(transformer, "feature_grid", None)
    if not isinstance(grid, tuple) or len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"transformer: got feature_grid = {grid!r}, allowed is (height, width)")
    mask_id = getattr(transformer, "mask_id", None)
    if not isinstance(mask_id, int) or 0 <= mask_id < transformer.codebook_size:
        raise ValueError(
            f"transformer: got mask_id = {mask_id!r}, allowed is an integer that is no token, as "
            f"0 .. {transformer.codebook_size - 1} are"
        )
