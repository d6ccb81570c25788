"""Training of an image-text model: which wording belongs to which image (Radford et al. 2021)."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nat_env.models.pixels import to_float
from nat_env.text.matcher import Matcher, MatcherConfig
from pretrain.captioned.versions import Versions
from pretrain.loop import LoopConfig, fit
from pretrain.parallel.execution import Execution


@dataclass(frozen=True)
class MatcherTraining:
    """Hyper-parameters of a matcher's training."""

    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=3, batch_size=256))
    weight_decay: float = 0.05


def train_matcher(
    versions: Versions, rows: Tensor, config: MatcherConfig, training: MatcherTraining,
    folder: Path, seed: int, name: str, execution: Execution | None = None,
) -> Matcher:  # fmt: skip
    """Train on versions of images and their wordings, resuming from `folder`.

    In a batch, each image has to find its own wording and each wording its image. Both are held
    against the whole batch, so it is taken in one pass. Other versions of the same image count as
    others.

    Args:
        versions: of images, with their wordings.
        rows: numbers of the versions to train on [n].
        config: sizes.
        training: hyper-parameters.
        folder: of the checkpoints.
        seed: of weights and order.
        name: of the checkpoint.
        execution: of one process.
    """
    execution = replace(execution or Execution(), passes=1)
    torch.manual_seed(seed)
    matcher = Matcher(config).to(execution.device)
    optimizer = torch.optim.AdamW(
        matcher.parameters(), training.loop.learning_rate, weight_decay=training.weight_decay
    )
    accelerator = execution.accelerator()
    network, stepper = accelerator.prepare(_Matched(matcher), optimizer)

    def update(step: int, total_steps: int, indices: Tensor) -> dict[str, Tensor]:
        own = rows[indices]
        images = to_float(versions.images[own].to(execution.device))
        logits = network(images, versions.pooled[own].to(execution.device).float())  # [B, B]
        target = torch.arange(len(own), device=logits.device)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        accelerator.backward(loss)
        stepper.step()
        stepper.zero_grad()
        return {"loss": loss, "accuracy": (logits.argmax(1) == target).float().mean()}

    parts: dict[str, nn.Module | torch.optim.Optimizer]
    parts = {"matcher": matcher, "optimizer": optimizer}
    fit(
        name, folder, training.loop, len(rows), seed, parts, update, execution,
        accelerator.scaler, asdict(training),
    )  # fmt: skip
    return matcher.eval().requires_grad_(False)


@torch.no_grad()
def bring_to_unit_variance(matcher: Matcher, embeddings: Tensor) -> None:
    """Scale the embeddings so that the mean variance of their numbers is 1; the logits stay.

    A distance between embeddings is then told in units of how much real images differ.

    Args:
        matcher: changed in place.
        embeddings: what it says of real images [n, D].
    """
    scale = float(embeddings.var(dim=0).mean().rsqrt())
    norm = next(m for m in reversed(list(matcher.layers)) if isinstance(m, nn.BatchNorm2d))
    norm.weight.mul_(scale)  # what follows, a ReLU and a mean, is scaled as it is
    norm.bias.mul_(scale)
    matcher.head.weight.div_(scale)


class _Matched(nn.Module):
    """A matcher as a module of its own: accelerate changes how the one it is given computes."""

    def __init__(self, matcher: Matcher) -> None:
        super().__init__()
        self.matcher = matcher

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        return self.matcher.matched(images, texts)
