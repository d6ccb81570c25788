"""What a bundle is made with: one dataclass, a preset for each kind of data set."""

from dataclasses import dataclass, field, replace

from nat_env.models.classifier import ClassifierConfig
from nat_env.models.uvit import UViTConfig
from nat_env.models.vq import TokenizerConfig
from pretrain.classifier import ClassifierTraining
from pretrain.loop import LoopConfig
from pretrain.tokenizer import TokenizerTraining
from pretrain.transformer import TransformerTraining

PRESET_IMAGES = 20_000
"""Training images that the preset `folder` is written for."""
MAX_REPEATS = 10
"""At most so many times its epochs."""
FINE_SIZE = 48
"""Pixels above which a token stands for 8 x 8 of them instead of 4 x 4."""

Sizes = tuple[TokenizerConfig, UViTConfig, ClassifierConfig, ClassifierConfig]
"""Of tokenizer, transformer, judge and trunk."""


@dataclass(frozen=True)
class PretrainConfig:
    """Sizes and trainings of a bundle's parts."""

    codebook_size: int = 512
    patch_size: int = 2
    tokenizer_widths: tuple[int, ...] = (32, 64)
    latent_channels: int = 8
    tokenizer: TokenizerTraining = field(default_factory=TokenizerTraining)
    hidden_size: int = 128
    depth: int = 7
    num_heads: int = 4
    dropout: float = 0.1
    """Of the NAT's token embeddings, in training."""
    transformer: TransformerTraining = field(default_factory=TransformerTraining)
    judge_widths: tuple[int, ...] = (32, 64, 64)
    judge: ClassifierTraining = field(default_factory=ClassifierTraining)
    trunk_widths: tuple[int, ...] = (32, 64, 128)
    trunk: ClassifierTraining = field(default_factory=ClassifierTraining)
    """A classifier of its own seed, for a discriminator to stand on."""
    num_real: int = 10_000
    """Real training images kept for a discriminator at most, as many of each class as there are."""
    seed: int = 0

    def sizes(self, channels: int, image_size: tuple[int, int], num_classes: int) -> Sizes:
        """Of tokenizer, transformer, judge and trunk, for such images.

        Raises:
            ValueError: sizes that do not go together.
        """
        tokenizer = TokenizerConfig(
            image_size,
            channels,
            self.codebook_size,
            self.patch_size,
            self.tokenizer_widths,
            latent_channels=self.latent_channels,
            priced=self.tokenizer.rate_weight > 0,
        )
        transformer = UViTConfig(
            self.codebook_size,
            tokenizer.grid,
            num_classes,
            self.hidden_size,
            self.depth,
            self.num_heads,
            self.dropout,
        )
        judge = ClassifierConfig(channels, num_classes, self.judge_widths)
        return tokenizer, transformer, judge, replace(judge, widths=self.trunk_widths)

    def longer(self, factor: float) -> "PretrainConfig":
        """With `factor` times the epochs of every training."""

        def stretched(loop: LoopConfig) -> LoopConfig:
            return replace(loop, epochs=loop.epochs * factor)

        return replace(
            self,
            tokenizer=replace(self.tokenizer, loop=stretched(self.tokenizer.loop)),
            transformer=replace(self.transformer, loop=stretched(self.transformer.loop)),
            judge=replace(self.judge, loop=stretched(self.judge.loop)),
            trunk=replace(self.trunk, loop=stretched(self.trunk.loop)),
        )


PRESETS: dict[str, PretrainConfig] = {
    # For a GPU: some minutes of one, and most of a day of two CPU cores.
    "fashion": PretrainConfig(
        codebook_size=2048,
        patch_size=1,
        tokenizer_widths=(32, 64, 64),
        tokenizer=TokenizerTraining(
            loop=LoopConfig(epochs=13, batch_size=256, learning_rate=1e-3),
            perceptual_weight=1.0,
            adversarial_width=64,
            adversarial_start=0.3,
        ),
        dropout=0.0,
        transformer=TransformerTraining(
            loop=LoopConfig(epochs=91.1, batch_size=1024, learning_rate=3e-3, warmup_steps=500),
            label_smoothing=0.05,
            ema_decay=0.9995,
        ),
        judge=ClassifierTraining(loop=LoopConfig(epochs=5, learning_rate=2e-3)),
        trunk=ClassifierTraining(loop=LoopConfig(epochs=3, learning_rate=2e-3)),
    ),
    "digits": PretrainConfig(
        codebook_size=64,
        patch_size=1,
        tokenizer_widths=(16, 32),
        tokenizer=TokenizerTraining(
            loop=LoopConfig(epochs=15, batch_size=32, learning_rate=2e-3, warmup_steps=50)
        ),
        hidden_size=64,
        depth=3,
        num_heads=4,
        transformer=TransformerTraining(
            loop=LoopConfig(epochs=50, batch_size=64, learning_rate=2e-3, warmup_steps=50),
            ema_decay=0.99,
        ),
        judge_widths=(32, 32),
        judge=ClassifierTraining(loop=LoopConfig(epochs=20, batch_size=64, learning_rate=2e-3)),
        trunk_widths=(32, 64),
        trunk=ClassifierTraining(loop=LoopConfig(epochs=10, batch_size=64, learning_rate=2e-3)),
    ),
    # For 20,000 images; `folder_config` adapts it to those there are.
    "folder": PretrainConfig(
        tokenizer=TokenizerTraining(
            loop=LoopConfig(epochs=6, batch_size=32, learning_rate=1.5e-3, warmup_steps=50)
        ),
        transformer=TransformerTraining(
            loop=LoopConfig(epochs=12, batch_size=64, learning_rate=1.5e-3, warmup_steps=50),
            ema_decay=0.995,
        ),
        judge=ClassifierTraining(
            loop=LoopConfig(epochs=3, batch_size=32, learning_rate=1e-3, warmup_steps=50)
        ),
        trunk=ClassifierTraining(
            loop=LoopConfig(epochs=2, batch_size=32, learning_rate=1e-3, warmup_steps=50)
        ),
    ),
}


def folder_config(num_images: int, image_size: int, epochs_factor: float = 1.0) -> PretrainConfig:
    """The preset `folder` for so many training images of that size.

    A network needs some thousand gradient steps to learn anything, of however many images they
    are. So epochs grow as images get fewer; up to `MAX_REPEATS` times, for after that it learns
    the images by heart.

    Example:
        >>> [folder_config(n, 32).transformer.loop.epochs for n in (20_000, 4_000, 1_000)]
        [12.0, 60.0, 120.0]
    """
    config = PRESETS["folder"]
    if image_size > FINE_SIZE:  # one more halving: a transformer's time grows with the tokens
        config = replace(
            config,
            tokenizer_widths=(*config.tokenizer_widths, 64),
            judge_widths=(*config.judge_widths, config.judge_widths[-1]),
            trunk_widths=(*config.trunk_widths, config.trunk_widths[-1]),
        )
    return config.longer(epochs_factor * min(PRESET_IMAGES / num_images, MAX_REPEATS))
