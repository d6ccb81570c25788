"""Training of a classifier of the data set's classes: a bundle's judge, or its trunk."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nat_env.frozen.batches import in_batches
from nat_env.models.classifier import Classifier, ClassifierConfig
from nat_env.models.pixels import to_float
from pretrain.loop import LoopConfig, fit


@dataclass(frozen=True)
class ClassifierTraining:
    """Hyper-parameters of a classifier's training."""

    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=5, learning_rate=2e-3))
    weight_decay: float = 0.01


def train_classifier(
    images: Tensor, labels: Tensor, config: ClassifierConfig, training: ClassifierTraining,
    folder: Path, seed: int, name: str, device: str = "cpu",
) -> Classifier:  # fmt: skip
    """Train on images [n, C, H, W] uint8 and labels [n], resuming from `folder`."""
    torch.manual_seed(seed)
    classifier = Classifier(config).to(device)
    optimizer = torch.optim.AdamW(
        classifier.parameters(), training.loop.learning_rate, weight_decay=training.weight_decay
    )

    def update(step: int, total_steps: int, indices: Tensor) -> dict[str, float]:
        target = labels[indices].to(device)
        logits = classifier(to_float(images[indices].to(device)))
        loss = F.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {
            "loss": loss.item(),
            "accuracy": float((logits.argmax(1) == target).float().mean()),
        }

    classifier.train()
    parts = {"classifier": classifier, "optimizer": optimizer}
    fit(name, folder, training.loop, len(images), seed, parts, update)
    return classifier.eval().requires_grad_(False)


def accuracy(
    classifier: Classifier, images: Tensor, labels: Tensor, batch_size: int = 256
) -> float:
    """Share of images [n, C, H, W] uint8 whose label [n] the classifier finds."""
    found = in_batches(
        lambda batch: classifier(to_float(batch)).argmax(1),
        images,
        batch_size=batch_size,
        device=next(classifier.parameters()).device,
    )
    return float((found == labels).double().mean())
