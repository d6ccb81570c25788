"""Training of the NAT: masked-token modelling (AutoNAT 3.1 and appendix A.1)."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nat_env.models.uvit import UViT, UViTConfig
from pretrain.loop import LoopConfig, fit

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


def masked_token_loss(
    model: UViT, ids: Tensor, labels: Tensor, training: TransformerTraining
) -> Tensor:
    """Cross entropy at the masked positions.

    Args:
        model: the NAT.
        ids: tokens [B, N].
        labels: classes [B].
        training: mask-ratio distribution, label dropout and smoothing.
    """
    batch, num_tokens = ids.shape
    masked = random_masks(sample_mask_ratio(training.mask_ratio, batch), num_tokens)  # [B, N]
    masked = masked.to(ids.device)
    dropped = (torch.rand(batch) < training.label_dropout).to(ids.device)
    condition = labels.masked_fill(dropped, model.config.num_classes)
    features = model.features(ids.masked_fill(masked, model.mask_id), condition)
    logits = model.logits(model.unfolded(features)[masked])  # [masked tokens, K]
    return F.cross_entropy(logits, ids[masked], label_smoothing=training.label_smoothing)


def train_transformer(
    ids: Tensor, labels: Tensor, config: UViTConfig, training: TransformerTraining,
    folder: Path, seed: int, device: str = "cpu",
) -> UViT:  # fmt: skip
    """Train on tokens [n, N] and labels [n], resuming from `folder`; gives the EMA model."""
    sample_mask_ratio(training.mask_ratio, 1)  # an unknown name is told before any work
    torch.manual_seed(seed)
    model = UViT(config).to(device)
    average = warmed_up_average(model, training.ema_decay)
    optimizer = torch.optim.AdamW(
        _decayed_groups(model, training.weight_decay),
        training.loop.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )

    def update(step: int, total_steps: int, indices: Tensor) -> dict[str, float]:
        batch = ids[indices].to(device), labels[indices].to(device)
        loss = masked_token_loss(model, *batch, training)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(model)
        return {"loss": loss.item(), "gradient_norm": norm.item()}

    parts = {"model": model, "average": average, "optimizer": optimizer}
    fit("transformer", folder, training.loop, len(ids), seed, parts, update)
    model.load_state_dict(average.module.state_dict())
    return model.eval().requires_grad_(False)


def warmed_up_average(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average whose n-th update has min(decay, (1 + n) / (10 + n)).

    The first one, n = 0, takes the model as it is.
    """

    def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        n = int(updates)
        return averaged.lerp(current, 1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(model, avg_fn=average)


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
