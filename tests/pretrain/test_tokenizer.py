"""The tokenizer's training: losses that join, and codes that go on being used."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import nat_env.models.efficientnet
import pretrain.tokenizer
from nat_env.models.vq import TokenizerConfig
from pretrain.loop import LoopConfig, epoch_batches
from pretrain.losses.discriminator import PatchDiscriminator
from pretrain.tokenizer import TokenizerTraining, encode_all, train_tokenizer

CONFIG = TokenizerConfig(
    (8, 8), 1, 6, block_out_channels=(8, 8), latent_channels=2, norm_num_groups=2
)


def images(count=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 1, 8, 8), generator=generator).byte()


def loop(epochs=2.0, rate=1e-3):
    return LoopConfig(epochs, batch_size=8, learning_rate=rate, warmup_steps=1)


def told(folder):
    events = EventAccumulator(str(folder / "tensorboard" / "tokenizer")).Reload()
    return {
        name.partition("/")[2]: events.Scalars(name)[-1].value for name in events.Tags()["scalars"]
    }


def test_without_weight_the_perceptual_loss_needs_no_package(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(nat_env.models.efficientnet, "import_module", missing)
    train_tokenizer(images(), CONFIG, TokenizerTraining(loop()), tmp_path / "without", 0)
    assert "perceptual_loss" not in told(tmp_path / "without")
    training = TokenizerTraining(loop(), perceptual_weight=0.5)
    with pytest.raises(ImportError, match=r"Lite1 .*pip install 'nat-env\[pretrain\]'"):
        train_tokenizer(images(), CONFIG, training, tmp_path / "with", 0)
    assert not (tmp_path / "with").exists()


def test_with_weight_it_is_a_part_of_the_loss(tmp_path, monkeypatch):
    """In place of the network the mean of an image: outputs become as bright as images are."""

    class Brightness(torch.nn.Module):
        def __init__(self, image_size):
            super().__init__()
            assert image_size == (8, 8)

        def forward(self, images, originals):
            return (images.mean() - originals.mean()).square()

    monkeypatch.setattr(pretrain.tokenizer, "PerceptualLoss", Brightness)
    found = {}
    for weight in (0.0, 1e4):
        training = TokenizerTraining(loop(), perceptual_weight=weight, adversarial_start=1.0)
        folder = tmp_path / str(weight)
        tokenizer = train_tokenizer(images(), CONFIG, training, folder, 0)
        shown = tokenizer.decode(encode_all(tokenizer, images(), "cpu"))
        found[weight] = abs(float(shown.mean()) - images().float().mean().item() / 255)
    assert found[1e4] < found[0.0] / 2
    assert told(tmp_path / "10000.0")["perceptual_loss"] < 0.01


def test_the_discriminator_joins_when_it_is_told(tmp_path):
    states = {}
    for start in (0.5, 1.0):
        training = TokenizerTraining(loop(), adversarial_start=start, adversarial_width=8)
        folder = tmp_path / str(start)
        states[start] = train_tokenizer(images(), CONFIG, training, folder, 0).vq.state_dict()
        assert ("discriminator_loss" in told(folder)) == (start == 0.5)
    assert any(not torch.equal(v, states[1.0][name]) for name, v in states[0.5].items())


def test_codes_that_no_token_used_are_put_onto_latents(tmp_path):
    """In the last step, with nothing learned, so that the latents are those of that batch."""
    training = TokenizerTraining(
        loop(rate=0.0), restart_every=4, restart_until=1.0, adversarial_start=1.0
    )
    config = TokenizerConfig(**(vars(CONFIG) | {"codebook_size": 400}))
    tokenizer = train_tokenizer(images(), config, training, tmp_path, 0)
    used = encode_all(tokenizer, images(), "cpu").unique()
    assert len(used) > 100  # a first draw leaves no code away from latents, the second neither
    indices = next(epoch_batches(16, 8, 0, 3))
    with torch.no_grad():
        latents = tokenizer.latents(images()[indices].float() / 255)
        first = tokenizer.latents(images().float() / 255)
    candidates = torch.cat([latents, first]).permute(0, 2, 3, 1).flatten(0, 2)
    distances = torch.cdist(tokenizer.codebook, candidates).amin(dim=1)
    assert distances.max() < 0.02
    assert told(tmp_path)["unused_codes"] > 100


def test_the_patch_discriminator_says_something_of_each_patch():
    torch.manual_seed(0)
    network = PatchDiscriminator(3, 8).eval()
    one = torch.rand(2, 3, 32, 32)
    other = one.clone()
    other[:, :, :4, :4] = 0.5
    first, second = network(one), network(other)
    assert first.shape == (2, 1, 8, 8)
    changed = (first - second).abs().amax(dim=(0, 1)) > 0
    assert changed[:2, :2].any() and not changed[4:].any() and not changed[:, 4:].any()
