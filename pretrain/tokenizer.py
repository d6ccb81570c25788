"""Training of the tokenizer: a VQGAN (Esser et al. 2021) at the size of a laptop."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nat_env.frozen.batches import in_batches
from nat_env.frozen.protocol import Tokenizer
from nat_env.models.pixels import to_float
from nat_env.models.vq import TokenizerConfig, VQTokenizer
from pretrain.loop import LoopConfig, fit


@dataclass(frozen=True)
class TokenizerTraining:
    """Hyper-parameters of the tokenizer's training."""

    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=4, batch_size=64))
    commitment: float = 1.0
    """Weight of diffusers' codebook and commitment loss."""
    adversarial_weight: float = 0.1
    """Weight of the patch discriminator in the tokenizer's loss."""
    adversarial_start: float = 0.4
    """Share of the steps after which the discriminator joins."""
    restart_every: int = 50
    """Steps between restarts of the codes that no token used meanwhile."""
    restart_until: float = 0.8
    """Share of the steps after which codes are left alone."""


class PatchDiscriminator(nn.Module):
    """Real or reconstructed, patch by patch (Isola et al. 2017), without batch statistics."""

    def __init__(self, channels: int, width: int = 32) -> None:
        """Make one with random weights."""
        super().__init__()
        norm = torch.nn.utils.parametrizations.spectral_norm
        self.layers = nn.Sequential(
            norm(nn.Conv2d(channels, width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            norm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            norm(nn.Conv2d(2 * width, 1, 3, padding=1)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, 1, H / 4, W / 4]."""
        return self.layers(images * 2 - 1)


class _Counter(nn.Module):
    """Tokens seen per code since the last restart, [K]; a module, so that it is checkpointed."""

    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(size))


def train_tokenizer(
    images: Tensor, config: TokenizerConfig, training: TokenizerTraining, folder: Path, seed: int,
    device: str = "cpu",
) -> VQTokenizer:  # fmt: skip
    """Train on images [n, C, H, W] uint8, resuming from `folder`."""
    torch.manual_seed(seed)
    tokenizer = VQTokenizer(config).to(device)
    network = tokenizer.vq
    discriminator = PatchDiscriminator(config.channels).to(device)
    rate = training.loop.learning_rate
    optimizer = torch.optim.Adam(network.parameters(), rate, betas=(0.9, 0.99))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), rate, betas=(0.5, 0.99))
    uses = _Counter(config.codebook_size).to(device)

    def update(step: int, total_steps: int, indices: Tensor) -> dict[str, float]:
        batch = to_float(images[indices].to(device))
        latents = tokenizer.latents(batch)
        if step == 0:
            _restart_codes(tokenizer, latents, uses.count == 0)
        quantised, code_loss, (_, _, ids) = tokenizer.vq.quantize(latents)
        output = tokenizer.images(quantised)
        pixel_loss = (output - batch).abs().mean() + (output - batch).square().mean()
        loss = pixel_loss + training.commitment * code_loss
        scalars = {"pixel_loss": pixel_loss.item(), "code_loss": code_loss.item()}
        joined = step >= training.adversarial_start * total_steps
        if joined:
            loss = loss - training.adversarial_weight * discriminator(output).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        d_optimizer.zero_grad()
        if joined:
            real, fake = discriminator(torch.cat([batch, output.detach()])).chunk(2)
            d_loss = (F.relu(1 - real) + F.relu(1 + fake)).mean()  # hinge
            d_loss.backward()
            scalars["discriminator_loss"] = d_loss.item()
        d_optimizer.step()  # moves nothing before the discriminator has joined

        uses.count.add_(torch.bincount(ids.flatten(), minlength=config.codebook_size))
        if (step + 1) % training.restart_every == 0:
            unused = uses.count == 0
            scalars["unused_codes"] = float(unused.sum())
            if step < training.restart_until * total_steps:
                _restart_codes(tokenizer, latents.detach(), unused)
            uses.count.zero_()
        return scalars

    parts = {
        "tokenizer": network,
        "discriminator": discriminator,
        "optimizer": optimizer,
        "d_optimizer": d_optimizer,
        "uses": uses,
    }
    fit("tokenizer", folder, training.loop, len(images), seed, parts, update)
    network.eval().requires_grad_(False)
    return tokenizer


def encode_all(tokenizer: Tokenizer, images: Tensor, device: str | torch.device) -> Tensor:
    """Images [n, C, H, W] uint8 -> ids [n, N] int64, where the images are.

    Args:
        tokenizer: on `device`.
        images: of any number.
        device: where a batch at a time is brought.
    """
    return in_batches(
        lambda batch: tokenizer.encode(to_float(batch)),
        images,
        device=device,
    )


@torch.no_grad()
def _restart_codes(tokenizer: VQTokenizer, latents: Tensor, unused: Tensor) -> None:
    """Put the unused codes [K] (bool) onto latents [B, L, h, w] drawn at random from the batch."""
    candidates = latents.permute(0, 2, 3, 1).flatten(0, 2)  # [B * h * w, L]
    chosen = torch.randint(len(candidates), (int(unused.sum()),))
    jitter = 1e-3 * torch.randn(len(chosen), candidates.shape[1])
    tokenizer.codebook[unused] = candidates[chosen] + jitter.to(candidates.device)
