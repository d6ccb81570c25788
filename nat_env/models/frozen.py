"""The frozen NAT as decoding sees it: two logits and one feature map per canvas."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Passes(NamedTuple):
    """What one step needs of the NAT: the conditional and the null pass on the same ids."""

    logits: Tensor
    """[B, N, K], conditional."""
    null_logits: Tensor
    """[B, N, K], with the null condition."""
    features: Tensor
    """[B, N, D] float32, of the conditional pass."""

    def rows(self, index: Tensor) -> "Passes":
        """The chosen rows, in ascending order; without a copy if they are all."""
        if len(index) == len(self.features):
            return self
        return Passes(*(part[index] for part in self))

    def put(self, index: Tensor, other: "Passes") -> "Passes":
        """`other` at the rows `index`, in ascending order, and these rows elsewhere."""
        if len(index) == len(self.features):
            return other
        return Passes(*(a.index_copy(0, index, b) for a, b in zip(self, other, strict=True)))


@dataclass(eq=False)
class FrozenNAT:
    """A masked transformer in inference: `transformer(ids, condition) -> (logits, features)`."""

    transformer: nn.Module
    num_tokens: int
    mask_id: int
    null_condition: int
    rows_per_pass: int = 128
    """Rows of one forward call: chunks that fit the caches are faster than one large batch."""

    def __post_init__(self) -> None:
        """Freeze the transformer."""
        self.transformer.eval().requires_grad_(False)
        self.forget_first_passes()

    def forget_first_passes(self) -> None:
        """Free what `first_passes` keeps: logits [N, K] and features [N, D] for each label."""
        self._first: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def device(self) -> torch.device:
        """Where the transformer's parameters are."""
        return next(self.transformer.parameters()).device

    @torch.no_grad()
    def passes(self, ids: Tensor, condition: Tensor) -> Passes:
        """Conditional and null pass on ids [B, N] with labels [B], their rows in one batch."""
        batch = len(ids)
        null = torch.full_like(condition, self.null_condition)
        logits, features = self._forward(torch.cat([ids, ids]), torch.cat([condition, null]))
        return Passes(logits[:batch], logits[batch:], features[:batch].float())

    @torch.no_grad()
    def first_passes(self, condition: Tensor) -> Passes:
        """The passes on the all-masked canvas, which depend on the label alone: kept per label.

        Logits [N, K] in the transformer's dtype and features [N, D] in float32: 1 MB a label in
        bfloat16 at the papers' size S. `forget_first_passes` frees them.
        """
        labels = condition.tolist()
        missing = sorted({*labels, self.null_condition} - self._first.keys())
        if missing:
            canvas = torch.full((len(missing), self.num_tokens), self.mask_id, device=self.device)
            logits, features = self._forward(canvas, torch.tensor(missing, device=self.device))
            self._first |= {
                label: (logits[row], features[row].float()) for row, label in enumerate(missing)
            }
        chosen = [self._first[label] for label in labels]
        logits, features = (torch.stack(parts) for parts in zip(*chosen, strict=True))
        null_logits, _ = self._first[self.null_condition]
        return Passes(logits, null_logits.expand_as(logits), features)

    def _forward(self, ids: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [R, N, K] and features [R, N, D], in chunks of `rows_per_pass`."""
        chunks = zip(
            ids.split(self.rows_per_pass), condition.split(self.rows_per_pass), strict=True
        )
        outputs = [self.transformer(*chunk) for chunk in chunks]
        logits, features = zip(*((o.logits, o.features) for o in outputs), strict=True)
        return torch.cat(logits), torch.cat(features)
