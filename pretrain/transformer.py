"""Training of the NAT: masked-token modelling (AutoNAT 3.1 and appendix A.1)."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nat_env.models.uvit import UViT, UViTConfig
from pretrain.loop import LoopConfig, fit
from pretrain.parallel.dropout import WholeBatchDropout
from pretrain.parallel.execution import Execution

_NUMBER = r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)"
_BETA = re.compile(rf"beta\({_NUMBER}, *{_NUMBER}\)")
_FIXED = re.compile(rf"fixed\({_NUMBER}\)")


@dataclass(frozen=True)
class TransformerTraining:
    """Hyper-parameters of the NAT's training."""

    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=12, warmup_steps=300))
    mask_ratio: str = "arccos"
    """Distribution of the share of masked tokens, see `sample_mask_ratio`."""
    label_dropout: float = 0.1
    """Probability of the null label, for guidance."""
    label_smoothing: float = 0.1
    weight_decay: float = 0.03
    ema_decay: float = 0.999
    """Warmed up: min(ema_decay, (1 + n) / (10 + n)) after n steps; the first step's is 0."""


@dataclass(frozen=True, eq=False)
class Hidden:
    """What the network does not see of a batch; on the host, as all that is drawn there."""

    masked: Tensor
    """Tokens [B, N], bool."""
    dropped: Tensor
    """Labels [B], bool."""

    @classmethod
    def drawn(cls, training: TransformerTraining, batch: int, num_tokens: int) -> "Hidden":
        """From torch's global generator."""
        masked = random_masks(sample_mask_ratio(training.mask_ratio, batch), num_tokens)
        return cls(masked, torch.rand(batch) < training.label_dropout)

    def __getitem__(self, rows: slice) -> "Hidden":
        """Of some rows of the batch."""
        return Hidden(self.masked[rows], self.dropped[rows])


class MaskedTokens(nn.Module):
    """The NAT's logits of masked tokens alone: a module, for accelerate to prepare."""

    def __init__(self, model: UViT) -> None:
        """Of `model`."""
        super().__init__()
        self.model = model

    def forward(self, shown: Tensor, condition: Tensor, positions: Tensor) -> Tensor:
        """Logits [m, K].

        Args:
            shown: tokens [B, N], masked where they are.
            condition: labels [B], the null label where dropped.
            positions: of the masked tokens among all B N [m].
        """
        hidden = self.model.unfolded(self.model.features(shown, condition))  # [B, N, D]
        return self.model.logits(hidden.flatten(0, 1).index_select(0, positions))


def masked_token_loss(
    network: nn.Module, model: UViT, ids: Tensor, labels: Tensor, hidden: Hidden, null: int,
    smoothing: float,
) -> Tensor:  # fmt: skip
    """Mean cross entropy of the masked tokens.

    What is hidden is known to the host, which prepares all indices: nothing waits for the device.

    Args:
        network: the `MaskedTokens` of `model`, or what accelerate made of it.
        model: the NAT.
        ids: tokens [B, N].
        labels: classes, or rows of the prompts' table [B].
        hidden: of tokens and labels.
        null: the label of none.
        smoothing: of labels.
    """
    device = model.head_bias.device
    positions = hidden.masked.flatten().nonzero()[:, 0]  # [m]
    shown = ids.masked_fill(hidden.masked, model.mask_id)
    condition = labels.masked_fill(hidden.dropped, null)
    logits = network(*(part.to(device) for part in (shown, condition, positions)))
    targets = ids.flatten()[positions].to(device)
    return F.cross_entropy(logits, targets, label_smoothing=smoothing)


class Rows(Protocol):
    """Tokens [n, N], of which rows are asked for: a tensor, or a `TokenRows` on the disk."""

    def __len__(self) -> int:
        """N."""
        ...

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """Those of rows [b]: [b, N] int64."""
        ...


def train_transformer(
    ids: Rows, labels: Tensor, config: UViTConfig, training: TransformerTraining,
    folder: Path, seed: int, execution: Execution | None = None, pooled: Tensor | None = None,
) -> UViT:  # fmt: skip
    """Train on tokens [n, N] and labels [n], resuming from `folder`; gives the EMA model.

    Labels are classes; or, for a network that takes prompts, rows of `pooled` [C + 1, E], the last
    of which stands for none.

    Every process draws what is hidden of the whole batch and takes its rows of it, so that the
    result does not depend on how many there are, but for rounding.
    """
    sample_mask_ratio(training.mask_ratio, 1)  # an unknown name is told before any work
    execution = execution or Execution()
    torch.manual_seed(seed)
    model = UViT(config).to(execution.device)
    null = config.num_classes if pooled is None else len(pooled) - 1
    if pooled is not None:
        model = model.with_context(pooled[:, None])  # [C + 1, 1, E]
    average = warmed_up_average(model, training.ema_decay)
    optimizer = torch.optim.AdamW(
        _decayed_groups(model, training.weight_decay),
        training.loop.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    dropout = WholeBatchDropout(config.dropout)
    if execution.portions > 1 and config.dropout:
        model.dropout = dropout  # type: ignore[assignment]
    accelerator = execution.accelerator()
    network, stepper = accelerator.prepare(MaskedTokens(model), optimizer)

    def update(step: int, total_steps: int, indices: Tensor) -> dict[str, Tensor]:
        batch = len(indices)
        hidden = Hidden.drawn(training, batch, config.num_tokens)
        if model.dropout is dropout:
            dropout.draw((batch, config.num_tokens, config.hidden_size), execution.device)
        losses: list[Tensor] = []
        norm: Tensor | None = None
        for rows in execution.rows:
            own = indices[rows]
            with accelerator.accumulate(network), dropout.of(rows):
                loss = masked_token_loss(
                    network, model, ids[own].cpu(), labels[own].cpu(), hidden[rows],
                    null, training.label_smoothing,
                )  # fmt: skip
                # Portions have as many rows, but not as many masked tokens: the mean is over these.
                share = hidden.masked[rows].sum().item() / hidden.masked.sum().item()
                loss = loss * (share * execution.portions)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(model.parameters(), 1.0)
                stepper.step()
                stepper.zero_grad()
            losses.append(loss.detach())
        assert norm is not None  # of the last pass, by which all gradients are there
        average.update_parameters(model)
        return {"loss": torch.stack(losses).mean(), "gradient_norm": norm}

    parts = {"model": model, "average": average, "optimizer": optimizer}
    fit(
        "transformer", folder, training.loop, len(ids), seed, parts, update, execution,
        accelerator.scaler, asdict(training),
    )  # fmt: skip
    model.load_state_dict(average.module.state_dict())
    model.dropout = nn.Dropout(config.dropout)
    return model.eval().requires_grad_(False)


def warmed_up_average(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average whose n-th update has min(decay, (1 + n) / (10 + n)).

    The first one, n = 0, takes the model as it is.
    """

    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], _: Tensor | int) -> None:
        n = int(averaging.n_averaged)  # on the host, where what is given is on the device
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value, 1 - min(decay, (1 + n) / (10 + n)))

    averaging = AveragedModel(model, multi_avg_fn=average)
    return averaging


def _decayed_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay for matrices only; biases, norms and positions are left alone."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embedding" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embedding" in n]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def sample_mask_ratio(name: str, size: int) -> Tensor:
    """Draw mask ratios [size] in (0, 1] from torch's global generator.

    Args:
        name: `arccos` (MaskGIT: density 2 / (pi sqrt(1 - r^2))), `beta(a, b)` (AutoNAT, Eq. 7;
            its best is `beta(12, 3)`) or `fixed(r)`.
        size: how many.

    Raises:
        ValueError: an unknown name or parameters out of range.

    Example:
        >>> sample_mask_ratio("fixed(0.8)", 2)
        tensor([0.8000, 0.8000])
    """
    if name == "arccos":
        return torch.cos(torch.rand(size) * math.pi / 2)
    if match := _BETA.fullmatch(name):
        alpha, beta = map(float, match.groups())
        if 0 < alpha < math.inf and 0 < beta < math.inf:
            return torch.distributions.Beta(alpha, beta).sample((size,))
    if (match := _FIXED.fullmatch(name)) and 0 < float(match[1]) <= 1:
        return torch.full((size,), float(match[1]))
    raise ValueError(
        f"mask_ratio: got {name!r}, allowed are 'arccos', 'beta(a, b)' with a, b > 0 "
        "and 'fixed(r)' with 0 < r <= 1"
    )


def random_masks(ratio: Tensor, num_tokens: int) -> Tensor:
    """Masks [B, N] (bool) with exactly max(1, round(N r)) random positions of each row set."""
    counts = (ratio * num_tokens).round().clamp(1, num_tokens)  # [B]
    ranks = torch.rand(len(ratio), num_tokens).argsort(dim=1).argsort(dim=1)  # [B, N]
    return ranks < counts[:, None]
