"""Discriminators: real or generated, for one image and its class at a time.

Group norm instead of batch statistics: an image's logits do not depend on its batch mates. No
spectral norm: the policy never sees a gradient of the discriminator, so nothing asks for a smooth
one, and without it the same number of updates tells more of the images apart.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nat_env.rewards.discriminator_config import GROUPS
from nat_env.rewards.trunks import Trunk


class PromptEmbedding(nn.Linear):
    """In place of an embedding of classes: a linear map of a prompt's pooled embedding.

    It is brought to length 1 before, as in the authors' code for text. The discriminator then knows
    of a prompt what the text encoder does, and may be asked of one that it has seen once or never.
    """

    def __init__(self, pooled: Tensor, size: int) -> None:
        """Of prompts with pooled embeddings [C + 1, P] to `size` numbers each."""
        super().__init__(pooled.shape[1], size, bias=False)  # the unconditional output has one
        self._pooled = (pooled,)  # in a tuple: neither trained, nor saved, nor moved

    def forward(self, conditions: Tensor) -> Tensor:
        """Conditions [B] -> [B, size]."""
        (pooled,) = self._pooled
        rows = pooled[conditions.to(pooled.device)].to(conditions.device, torch.float32)
        return super().forward(F.normalize(rows, dim=1))


class ProjectionHead(nn.Module):
    """Logits of a feature map: a linear output plus a projection on the condition (Miyato 2018)."""

    def __init__(self, size: int, num_conditions: int, pooled: Tensor | None = None) -> None:
        """Make one with random weights.

        Args:
            size: channels of the maps.
            num_conditions: C.
            pooled: embeddings of the conditions [C + 1, P], where they are prompts; None: of each
                condition one is learned.
        """
        super().__init__()
        self.output = nn.Conv2d(size, 1, 1)
        self.class_embedding = (
            nn.Embedding(num_conditions, size) if pooled is None else PromptEmbedding(pooled, size)
        )
        nn.init.normal_(self.class_embedding.weight, std=size**-0.5)

    def forward(self, hidden: Tensor, conditions: Tensor) -> Tensor:
        """Maps [B, W, h, w] and conditions [B] -> logits [B, h * w]."""
        projection = torch.einsum("bwyx,bw->byx", hidden, self.class_embedding(conditions))
        return (self.output(hidden)[:, 0] + projection).flatten(1)


class ScratchDiscriminator(nn.Module):
    """A small convolutional network, all of it trained."""

    def __init__(
        self,
        channels: int,
        num_conditions: int,
        widths: tuple[int, ...],
        pooled: Tensor | None = None,
    ) -> None:
        """Make one with random weights; each of `widths` halves the resolution.

        Args:
            channels: of an image.
            num_conditions: see `ProjectionHead`.
            widths: of the layers.
            pooled: see `ProjectionHead`.
        """
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for index, width in enumerate(widths):
            layers.append(nn.Conv2d(before, width, 4, stride=2, padding=1))
            if index:  # norm at the input would hide an image's brightness and contrast
                layers.append(nn.GroupNorm(GROUPS, width))
            layers.append(nn.LeakyReLU(0.2))
            before = width
        self.layers = nn.Sequential(*layers)
        self.head = ProjectionHead(before, num_conditions, pooled)

    def embed(self, images: Tensor) -> list[Tensor]:
        """What of the images [B, C, H, W] no training changes: the images."""
        return [images]

    def logits(self, embedding: Sequence[Tensor], conditions: Tensor) -> Tensor:
        """Embedding and labels [B] -> logits [B, positions]."""
        (images,) = embedding
        return self.head(self.layers(images * 2 - 1), conditions)

    def forward(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1], labels [B] -> logits [B, positions]."""
        return self.logits(self.embed(images), conditions)


class TrunkDiscriminator(nn.Module):
    """Heads on the stages of a frozen pretrained network, as StyleGAN-T's on DINO.

    What the frozen network says makes it look at what an image shows rather than at its texture.

    AdaNAT's code takes StyleGAN-T's discriminator as it is. This one differs, on purpose where a
    reward has to be a function of one image: group norm instead of one over groups of 8 of the
    batch, by which an image's logit depends on its batch mates, and no random crops of what is
    rewarded. And for size, 0.5 M parameters instead of 10.3 M: heads of two convolutions on the
    grid instead of a residual block along the tokens, no spectral norm, an embedding of the class
    beside an unconditional output instead of a mapping network, and the loss of each stage's mean
    logit instead of every position's. Its heads' weights cannot be loaded.
    """

    def __init__(
        self, trunk: Trunk, num_conditions: int, width: int, pooled: Tensor | None = None
    ) -> None:
        """Put a head of `width` channels on every stage of `trunk`.

        Args:
            trunk: the frozen network.
            num_conditions: see `ProjectionHead`.
            width: of a head.
            pooled: see `ProjectionHead`.

        Raises:
            ValueError: it has none: a bundle's classifier of a single stage, say.
        """
        super().__init__()
        self._frozen = (trunk,)  # in a tuple: neither trained nor saved with the heads
        sizes = trunk.stage_sizes
        if not sizes:
            raise ValueError(
                "trunk: got one without stages for heads to stand on, allowed is at least one; of "
                "a classifier the first stage is none: it needs two, or take the trunk `scratch`"
            )
        self.branches = nn.ModuleList(_branch(size, width) for size in sizes)
        self.heads = nn.ModuleList(ProjectionHead(width, num_conditions, pooled) for _ in sizes)

    def embed(self, images: Tensor) -> list[Tensor]:
        """What of the images [B, C, H, W] no training changes: the trunk's feature maps."""
        with torch.set_grad_enabled(images.requires_grad):  # for R1 alone
            return list(self._frozen[0].stages(images.clone()))  # it may work in place

    def logits(self, embedding: Sequence[Tensor], conditions: Tensor) -> Tensor:
        """Embedding and labels [B] -> logits [B, stages], one mean a stage."""
        logits = [
            # A head is linear: of the mean it says what it says on average, at less cost.
            head(branch(stage).mean(dim=(2, 3), keepdim=True), conditions)[:, 0]
            for stage, branch, head in zip(embedding, self.branches, self.heads, strict=True)
        ]
        return torch.stack(logits, dim=1)

    def forward(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1], labels [B] -> logits [B, stages]."""
        return self.logits(self.embed(images), conditions)


def _branch(size: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(size, width, 1),
        nn.GroupNorm(GROUPS, width),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.GroupNorm(GROUPS, width),
        nn.LeakyReLU(0.2),
    )
