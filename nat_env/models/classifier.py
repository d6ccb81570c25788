"""Small networks that know images: a bundle's judge is one, a discriminator's trunk another."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from nat_env.frozen.batches import in_batches
from nat_env.frozen.conditions import Conditions
from nat_env.frozen.precision import full_float32
from nat_env.frozen.weights import load_weights, save_weights
from nat_env.models.pixels import to_float


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a `Classifier`."""

    channels: int
    num_classes: int
    widths: tuple[int, ...] = (32, 64, 64)
    """Width of each stage; each stage halves the resolution."""


class Tower(nn.Module):
    """What networks that know images stand on; its embeddings are the spatial mean at its top.

    One that belongs to a bundle says how many conditions it tells apart (`num_conditions`), and of
    embeddings [B, D] what they are of: `classifier`, logits [B, num_conditions].
    """

    classifier: Any
    num_conditions: int

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        """Make one with random weights.

        Args:
            channels: of an image.
            widths: of each stage; each stage halves the resolution.
        """
        super().__init__()
        self.channels, self.widths = channels, widths
        layers: list[nn.Module] = []
        before = channels
        self.stage_ends: list[int] = []
        for index, width in enumerate(widths):
            layers += _convolution(before, width, stride=2)
            if index:  # the first stage works at the highest resolution: one convolution is enough
                layers += _convolution(width, width, stride=1)
            before = width
            self.stage_ends.append(len(layers))
        self.layers = nn.Sequential(*layers)

    def with_conditions(self, conditions: Conditions) -> Self | None:
        """The same network for another table of conditions; None of one that knows its own alone.

        Raises:
            ValueError: a table that it does not take.
        """
        return None

    @property
    def embedding_size(self) -> int:
        """D."""
        return self.widths[-1]

    def embeddings(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] -> embeddings [B, D]."""
        return self.layers(images * 2 - 1).mean(dim=(2, 3))

    def stages(self, images: Tensor) -> list[Tensor]:
        """Images [B, C, H, W] in [0, 1] -> feature maps [B, widths[i], h, w] after each stage."""
        hidden, maps = images * 2 - 1, []
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden)
            if index + 1 in self.stage_ends:
                maps.append(hidden)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] -> logits [B, num_conditions]."""
        return self.classifier(self.embeddings(images))


class Classifier(Tower):
    """Convolutional classifier; its embeddings are the spatial mean before the last layer."""

    kind: ClassVar[str] = "classifier"

    def __init__(self, config: ClassifierConfig) -> None:
        """Make one with random weights."""
        super().__init__(config.channels, config.widths)
        self.config = config
        self.num_conditions = config.num_classes
        self.classifier = nn.Linear(self.embedding_size, config.num_classes)

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Stored`."""
        save_weights(self, folder)
        return asdict(self.config)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], conditions: Conditions) -> "Classifier":
        """See `Stored`."""
        values: dict[str, Any] = dict(config) | {"widths": tuple(config["widths"])}
        sizes = ClassifierConfig(**values)
        conditions.check_classes(folder.name, sizes.num_classes)
        classifier = cls(sizes)
        load_weights(classifier, folder)
        return classifier.eval().requires_grad_(False)


def _convolution(before: int, after: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    ]


def embeddings_of(network: Tower, images: Tensor, batch_size: int = 256) -> Tensor:
    """Embeddings [n, D] of many images, uint8 [n, C, H, W] or float in [0, 1], in batches.

    They are where the images are, wherever the network computes them, and computed without TF32:
    a distance of them does not depend on the precision of a training.
    """
    with full_float32():
        return in_batches(
            lambda batch: network.embeddings(to_float(batch)),
            images,
            batch_size=batch_size,
            device=next(network.parameters()).device,
        )
