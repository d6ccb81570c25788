"""What a bundle of prompts is made with."""

from dataclasses import dataclass, field

from nat_env.models.uvit import UViTConfig
from nat_env.models.vq import TokenizerConfig
from nat_env.text.matcher import MatcherConfig
from pretrain.captioned.matcher import MatcherTraining
from pretrain.captioned.versions import VersionsConfig
from pretrain.loop import LoopConfig
from pretrain.tokenizer import TokenizerTraining
from pretrain.transformer import TransformerTraining


@dataclass(frozen=True)
class CaptionedConfig:
    """Sizes and trainings of a bundle's parts."""

    image_size: int = 32
    versions: VersionsConfig = field(default_factory=VersionsConfig)
    codebook_size: int = 1024
    """Codes that the tokenizer's training begins with; those that it leaves unused are dropped."""
    tokenizer_widths: tuple[int, ...] = (32, 64, 96)
    latent_channels: int = 8
    tokenizer: TokenizerTraining = field(
        default_factory=lambda: TokenizerTraining(
            loop=LoopConfig(epochs=4.1, batch_size=256, learning_rate=1e-3),
            perceptual_weight=1.0,
            adversarial_width=64,
            adversarial_start=0.3,
            restart_until=0.4,
            rate_weight=0.15,
        )
    )
    hidden_size: int = 192
    depth: int = 9
    num_heads: int = 6
    dropout: float = 0.1
    """Of the NAT's token embeddings, in training."""
    transformer: TransformerTraining = field(
        default_factory=lambda: TransformerTraining(
            loop=LoopConfig(epochs=40, batch_size=512, learning_rate=2e-3, warmup_steps=500),
            label_smoothing=0.03,
            weight_decay=0.05,
            ema_decay=0.9995,
        )
    )
    judge_widths: tuple[int, ...] = (32, 64, 64)
    trunk_widths: tuple[int, ...] = (32, 64, 128)
    aligner_widths: tuple[int, ...] = (48, 96, 160)
    judge: MatcherTraining = field(default_factory=MatcherTraining)
    """On the concepts of even numbers."""
    trunk: MatcherTraining = field(default_factory=MatcherTraining)
    """On those of odd numbers, for a discriminator to stand on."""
    aligner: MatcherTraining = field(default_factory=MatcherTraining)
    """On all, for the alignment score: no reward asks it."""
    num_real: int = 2_048
    """Real training images kept for a discriminator and other judges, or all if there are fewer."""
    seed: int = 0

    def tokenizer_size(self) -> TokenizerConfig:
        """Of colour images."""
        return TokenizerConfig(
            (self.image_size, self.image_size), 3, self.codebook_size,
            block_out_channels=self.tokenizer_widths, latent_channels=self.latent_channels,
            priced=self.tokenizer.rate_weight > 0,
        )  # fmt: skip

    def transformer_size(self, text_size: int) -> UViTConfig:
        """For prompts of one vector of so many numbers."""
        return UViTConfig(
            self.codebook_size, self.tokenizer_size().grid, 0, self.hidden_size, self.depth,
            self.num_heads, self.dropout, context_length=1, context_size=text_size,
        )  # fmt: skip

    def matcher_size(self, widths: tuple[int, ...], text_size: int) -> MatcherConfig:
        """Of judge, trunk or aligner."""
        return MatcherConfig(3, text_size, widths)
