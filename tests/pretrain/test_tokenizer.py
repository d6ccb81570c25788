"""The tokenizer's training: losses that join, and codes that go on being used."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import nat_env.models.efficientnet
import pretrain.tokenizer
from nat_env.models.vq import TokenizerConfig
from pretrain.loop import LoopConfig, epoch_batches
from pretrain.losses.discriminator import PatchDiscriminator
from pretrain.tokenizer import (
    TokenizerTraining,
    encode_all,
    train_tokenizer,
    without_unused_codes,
)

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


PRICED = replace(CONFIG, codebook_size=40, priced=True)


def test_a_price_is_what_a_code_was_used_and_the_cheapest_code_is_taken(tmp_path):
    """With nothing learned: of 16 images twice, the nearest by hand, their counts, their prices."""
    still = TokenizerTraining(
        loop(rate=0.0), restart_every=4, restart_until=0.0, adversarial_start=1.0, rate_weight=0.3
    )
    tokenizer = train_tokenizer(images(), PRICED, still, tmp_path, 0)
    codes = tokenizer.codebook.numpy()
    with torch.no_grad():
        latents = tokenizer.latents(images().float() / 255)  # [16, 3, 4, 4]
    assert not latents[:, 2].any()
    flat = latents[:, :2].permute(0, 2, 3, 1).reshape(-1, 1, 2).numpy()
    distances = np.square(flat - codes[None, :, :2]).sum(axis=2)  # [256, 40]
    counts = 2 * np.bincount(distances.argmin(axis=1), minlength=40)
    prices = -0.3 * np.log((counts + 1) / (512 + 40))
    np.testing.assert_allclose(np.square(codes[:, 2]), prices, rtol=1e-5)
    ids = tokenizer.encode(images().float() / 255)
    np.testing.assert_array_equal(ids.flatten(), (distances + prices).argmin(axis=1))
    shown = tokenizer.decode(ids)
    tokenizer.codebook[:, 2] += 1
    assert torch.equal(tokenizer.decode(ids), shown)


def test_prices_make_tokens_easier_to_tell(tmp_path):
    """The entropy of an image's tokens, after a training with prices and one without."""
    found = {}
    for weight in (0.0, 0.5):
        training = TokenizerTraining(
            loop(epochs=20.0), restart_every=5, restart_until=0.2, adversarial_start=1.0,
            rate_weight=weight,
        )  # fmt: skip
        config = replace(PRICED, priced=weight > 0)
        tokenizer = train_tokenizer(images(), config, training, tmp_path / str(weight), 0)
        shares = np.bincount(encode_all(tokenizer, images(), "cpu").flatten()) / 256
        found[weight] = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
        if weight:
            assert tokenizer.codebook[:, -1].min() > 0
            assert not tokenizer.vq.quant_conv.weight[-1].any()
    assert found[0.5] < found[0.0] - 0.5


@pytest.mark.parametrize(("priced", "weight"), [(True, 0.0), (False, 0.1)])
def test_prices_are_asked_for_on_both_sides(priced, weight, tmp_path):
    training = TokenizerTraining(loop(), rate_weight=weight)
    with pytest.raises(ValueError, match=f"rate_weight: got {weight} where priced is {priced}"):
        train_tokenizer(images(), replace(CONFIG, priced=priced), training, tmp_path / "new", 0)
    assert not (tmp_path / "new").exists()


def test_codes_that_are_left_out_change_no_image(tmp_path):
    training = TokenizerTraining(loop(), adversarial_start=1.0)
    config = replace(CONFIG, codebook_size=400)
    tokenizer = train_tokenizer(images(), config, training, tmp_path, 0)
    ids = encode_all(tokenizer, images(), "cpu")
    smaller, numbers = without_unused_codes(tokenizer, ids)
    assert smaller.codebook_size == len(ids.unique()) < 400
    assert numbers.unique().tolist() == list(range(smaller.codebook_size))
    assert torch.equal(smaller.codebook[numbers], tokenizer.codebook[ids])
    assert torch.equal(smaller.decode(numbers), tokenizer.decode(ids))
    assert torch.equal(smaller.encode(images().float() / 255), numbers)


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
