"""Training of a classifier of the data set's classes: a bundle's judge, or its trunk."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nat_env.frozen.batches import in_batches
from nat_env.models.classifier import Classifier, ClassifierConfig, Tower
from nat_env.models.pixels import to_float
from pretrain.loop import LoopConfig, fit
from pretrain.parallel.batch_norm import with_whole_batch_norms
from pretrain.parallel.execution import Execution


@dataclass(frozen=True)
class ClassifierTraining:
    """Hyper-parameters of a classifier's training."""

    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=5, learning_rate=2e-3))
    weight_decay: float = 0.01


def train_classifier(
    images: Tensor, labels: Tensor, config: ClassifierConfig, training: ClassifierTraining,
    folder: Path, seed: int, name: str, execution: Execution | None = None,
) -> Classifier:  # fmt: skip
    """Train on images [n, C, H, W] uint8 and labels [n], resuming from `folder`.

    It normalises over the whole batch, and so takes it in one pass of each process.
    """
    execution = replace(execution or Execution(), passes=1)
    torch.manual_seed(seed)
    classifier = Classifier(config).to(execution.device)
    if execution.processes.count > 1:
        with_whole_batch_norms(classifier)
    optimizer = torch.optim.AdamW(
        classifier.parameters(), training.loop.learning_rate, weight_decay=training.weight_decay
    )
    accelerator = execution.accelerator()
    network, stepper = accelerator.prepare(_Logits(classifier), optimizer)

    def update(step: int, total_steps: int, indices: Tensor) -> dict[str, Tensor]:
        (rows,) = execution.rows
        own = indices[rows]
        target = labels[own].to(execution.device)
        logits = network(to_float(images[own].to(execution.device)))
        loss = F.cross_entropy(logits, target)
        accelerator.backward(loss)
        stepper.step()
        stepper.zero_grad()
        return {"loss": loss, "accuracy": (logits.argmax(1) == target).float().mean()}

    parts = {"classifier": classifier, "optimizer": optimizer}
    fit(
        name, folder, training.loop, len(images), seed, parts, update, execution,
        accelerator.scaler, asdict(training),
    )  # fmt: skip
    trained = Classifier(config).to(execution.device)
    trained.load_state_dict(classifier.state_dict())
    return trained.eval().requires_grad_(False)


class _Logits(nn.Module):
    """A classifier as a module of its own: accelerate changes how the one it is given computes."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(images)


def accuracy(classifier: Tower, images: Tensor, labels: Tensor, batch_size: int = 256) -> float:
    """Share of images [n, C, H, W] uint8 whose label [n] the classifier finds."""
    found = in_batches(
        lambda batch: classifier(to_float(batch)).argmax(1),
        images,
        batch_size=batch_size,
        device=next(classifier.parameters()).device,
    )
    return float((found == labels).double().mean())
