"""Training of the NAT: masked-token modelling (AutoNAT 3.1 and appendix A.1)."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nat_env.models.uvit import UViT, UViTConfig
from pretrain.loop import LoopConfig, fit
from pretrain.mask_ratio import random_masks, sample_mask_ratio


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
    logits = model.logits(features[masked])  # [masked tokens, K]
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
