"""Training of the tokenizer: a VQGAN (Esser et al. 2021) at the size of a laptop."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nat_env.frozen.batches import in_batches
from nat_env.frozen.precision import without_autocast
from nat_env.frozen.protocol import Tokenizer
from nat_env.models.pixels import to_float
from nat_env.models.vq import TokenizerConfig, VQTokenizer
from pretrain.loop import LoopConfig, fit
from pretrain.losses.discriminator import PatchDiscriminator
from pretrain.losses.perceptual import PerceptualLoss
from pretrain.parallel.execution import Execution


@dataclass(frozen=True)
class TokenizerTraining:
    """Hyper-parameters of the tokenizer's training."""

    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=4, batch_size=64))
    commitment: float = 1.0
    """Weight of diffusers' codebook and commitment loss."""
    perceptual_weight: float = 0.0
    """Weight of the distance between feature maps, see `PerceptualLoss`; 0 needs no package."""
    adversarial_weight: float = 0.1
    """Weight of the patch discriminator in the tokenizer's loss."""
    adversarial_width: int = 32
    """Channels of its first layer."""
    adversarial_start: float = 0.4
    """Share of the steps after which the discriminator joins."""
    restart_every: int = 50
    """Steps between restarts of the codes that no token used meanwhile."""
    restart_until: float = 0.8
    """Share of the steps after which codes are left alone, or have a price."""
    rate_weight: float = 0.0
    """Lambda of entropy-constrained quantisation (Chou, Lookabaugh and Gray 1989, Eq. 5): of codes
    that tokens have with probability p, each has the price -lambda log p, and an image's tokens are
    those of the least squared distance plus price. Without, plain regions have many codes, which
    tell what is elsewhere in the image, and a NAT has to learn them."""


class _Counter(nn.Module):
    """Tokens seen per code since the last restart, [K]; a module, so that it is checkpointed."""

    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(size))


class _Reconstruction(nn.Module):
    """A tokenizer as a module, for accelerate to prepare: images to images, codes and losses."""

    def __init__(self, tokenizer: VQTokenizer) -> None:
        super().__init__()
        self.network = tokenizer.vq
        self._tokenizer = tokenizer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images [b, C, H, W] -> reconstructions, ids [b * N] and the loss of codes."""
        latents = self._tokenizer.latents(images)
        with without_autocast(images.device):  # the nearest code is found in float32
            quantised, code_loss, (_, _, ids) = self.network.quantize(latents.float())
        return self._tokenizer.images(quantised), ids.flatten(), code_loss


def train_tokenizer(
    images: Tensor, config: TokenizerConfig, training: TokenizerTraining, folder: Path, seed: int,
    execution: Execution | None = None,
) -> VQTokenizer:  # fmt: skip
    """Train on images [n, C, H, W] uint8, resuming from `folder`.

    Raises:
        ValueError: codes that have a price by `config` and none by `training`, or the reverse.
    """
    _check_prices(config, training)
    execution = execution or Execution()
    device = execution.device
    torch.manual_seed(seed)
    tokenizer = VQTokenizer(config).to(device)
    network = tokenizer.vq
    _hold_prices(tokenizer, torch.zeros(config.codebook_size, device=device))
    discriminator = PatchDiscriminator(config.channels, training.adversarial_width).to(device)
    perceptual = None
    if training.perceptual_weight:
        perceptual = PerceptualLoss(config.image_size).to(device)
    rate = training.loop.learning_rate
    optimizer = torch.optim.Adam(network.parameters(), rate, betas=(0.9, 0.99))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), rate, betas=(0.5, 0.99))
    uses = _Counter(config.codebook_size).to(device)
    accelerator = execution.accelerator()
    reconstruct, stepper = accelerator.prepare(_Reconstruction(tokenizer), optimizer)
    discriminate, d_stepper = accelerator.prepare(discriminator, d_optimizer)

    def update(step: int, total_steps: int, indices: Tensor) -> dict[str, Tensor]:
        batches = [to_float(images[indices[rows]].to(device)) for rows in execution.rows]
        if step == 0:
            _restart_codes(tokenizer, _latents(tokenizer, batches, execution), uses.count == 0)
        restarts = (step + 1) % training.restart_every == 0
        # Those of before the update, as the codes that they are of.
        latents = _latents(tokenizer, batches, execution) if restarts else None
        prices = tokenizer.codebook[:, -1].detach().square()  # [K], where codes have one
        joined = step >= training.adversarial_start * total_steps
        discriminator.requires_grad_(False)
        outputs, found = [], _Means()
        counts = torch.zeros_like(uses.count)
        for number, batch in enumerate(batches):
            discriminator.train(number == 0)  # spectral norms go on once a batch, not once a pass
            with accelerator.accumulate(reconstruct):
                output, ids, code_loss = reconstruct(batch)
                pixel_loss = (output - batch).abs().mean() + (output - batch).square().mean()
                loss = pixel_loss + training.commitment * code_loss
                if perceptual is not None:
                    with accelerator.autocast():
                        distance = perceptual(output, batch)
                    loss = loss + training.perceptual_weight * distance
                    found.add(perceptual_loss=distance)
                if joined:
                    with accelerator.autocast():
                        score = discriminator(output).float().mean()
                    loss = loss - training.adversarial_weight * score
                accelerator.backward(loss)
                stepper.step()
                stepper.zero_grad()
            found.add(pixel_loss=pixel_loss, code_loss=code_loss)
            counts.scatter_add_(0, ids, torch.ones_like(ids, dtype=counts.dtype))
            outputs.append(output.detach())
        discriminator.requires_grad_(True)
        if joined:
            for number, (batch, output) in enumerate(zip(batches, outputs, strict=True)):
                discriminator.train(number == 0)
                with accelerator.accumulate(discriminate):
                    real, fake = discriminate(torch.cat([batch, output])).chunk(2)
                    d_loss = (F.relu(1 - real) + F.relu(1 + fake)).mean()  # hinge
                    accelerator.backward(d_loss)
                    d_stepper.step()
                    d_stepper.zero_grad()
                found.add(discriminator_loss=d_loss)
        else:
            d_optimizer.step()  # moves nothing before the discriminator has joined

        scalars = found.means()
        _hold_prices(tokenizer, prices)
        uses.count.add_(execution.processes.summed(counts))
        if latents is not None:
            unused = uses.count == 0
            scalars["unused_codes"] = unused.sum()
            if step < training.restart_until * total_steps:
                _restart_codes(tokenizer, latents, unused)
            else:
                _hold_prices(tokenizer, training.rate_weight * self_information(uses.count))
            uses.count.zero_()
        return scalars

    parts = {
        "tokenizer": network,
        "discriminator": discriminator,
        "optimizer": optimizer,
        "d_optimizer": d_optimizer,
        "uses": uses,
    }
    fit(
        "tokenizer", folder, training.loop, len(images), seed, parts, update, execution,
        accelerator.scaler, asdict(training),
    )  # fmt: skip
    network.eval().requires_grad_(False)
    return tokenizer


def _check_prices(config: TokenizerConfig, training: TokenizerTraining) -> None:
    if config.priced != (training.rate_weight > 0):
        raise ValueError(
            f"rate_weight: got {training.rate_weight} where priced is {config.priced}, allowed is "
            "more than 0 for codes that have a price, and 0 for others"
        )


class _Means:
    """Means over the passes of a batch, where they are: nothing is read."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self._values.setdefault(name, []).append(value.detach())

    def means(self) -> dict[str, Tensor]:
        return {name: torch.stack(values).mean() for name, values in self._values.items()}


@torch.no_grad()
def _latents(tokenizer: VQTokenizer, batches: Sequence[Tensor], execution: Execution) -> Tensor:
    """Of the whole batch [B, L, h, w], in every process."""
    return execution.whole([tokenizer.latents(batch) for batch in batches])


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


def self_information(counts: Tensor) -> Tensor:
    """-log p of codes that were seen so often [K], each as if once more.

    Example:
        >>> self_information(torch.tensor([0.0, 2.0])).exp()  # 4 in all
        tensor([4.0000, 1.3333])
    """
    return (counts.sum() + len(counts)).log() - (counts + 1).log()


@torch.no_grad()
def _hold_prices(tokenizer: VQTokenizer, prices: Tensor) -> None:
    """Give codes their prices [K], if they have any: latents have 0 there, decoders see nothing."""
    if not tokenizer.config.priced:
        return
    network = tokenizer.vq
    tokenizer.codebook[:, -1] = prices.sqrt()
    network.quant_conv.weight[-1] = 0
    network.quant_conv.bias[-1] = 0
    network.post_quant_conv.weight[:, -1] = 0


def without_unused_codes(tokenizer: VQTokenizer, ids: Tensor) -> tuple[VQTokenizer, Tensor]:
    """The tokenizer with the codes that are among `ids` [n, N] alone, and the ids by its numbers.

    Both are on the device that the codes are on, and on that of `ids`.
    """
    used = ids.unique()  # [k], sorted
    state = tokenizer.vq.state_dict()
    codes = tokenizer.codebook[used.to(tokenizer.codebook.device)]
    smaller = VQTokenizer(replace(tokenizer.config, codebook_size=len(used))).to(codes.device)
    smaller.vq.load_state_dict(state | {"quantize.embedding.weight": codes})
    smaller.vq.eval().requires_grad_(False)
    return smaller, torch.searchsorted(used, ids)


@torch.no_grad()
def _restart_codes(tokenizer: VQTokenizer, latents: Tensor, unused: Tensor) -> None:
    """Put the unused codes [K] (bool) onto latents [B, L, h, w] drawn at random from the batch."""
    candidates = latents.permute(0, 2, 3, 1).flatten(0, 2)  # [B * h * w, L]
    places = unused.nonzero()[:, 0]
    chosen = torch.randint(len(candidates), (len(places),)).to(candidates.device)
    size = tokenizer.config.latent_channels  # without a price
    jitter = 1e-3 * torch.randn(len(chosen), size)
    tokenizer.codebook[places, :size] = candidates[chosen, :size] + jitter.to(candidates.device)
