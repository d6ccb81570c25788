"""Training of a model of images and texts: its loss, and what it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import special
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nat_env.text.matcher import Matcher, MatcherConfig
from pretrain.captioned.matcher import (
    MatcherTraining,
    bring_to_unit_variance,
    train_matcher,
)
from pretrain.captioned.versions import Versions
from pretrain.loop import LoopConfig, epoch_batches
from pretrain.parallel.execution import Execution

CONFIG = MatcherConfig(3, 3, (8, 8))
COLOURS = torch.tensor([[220, 30, 30], [30, 220, 30], [30, 30, 220], [200, 200, 30]])


@pytest.fixture
def toys():
    """Images of a colour, whose wording is nearly that colour."""
    generator = torch.Generator().manual_seed(0)
    of = torch.arange(64) % 4
    noise = torch.randint(-20, 21, (64, 3, 4, 4), generator=generator)
    images = (COLOURS[of][:, :, None, None] + noise).byte()
    pooled = COLOURS[of] / 128 - 1 + 0.05 * torch.randn(64, 3, generator=generator)
    return Versions(images, pooled.half(), torch.zeros(64, dtype=torch.bool), of)


def test_it_learns_which_wording_belongs_to_an_image(toys, tmp_path):
    training = MatcherTraining(LoopConfig(25, 16, 1e-2, 10))
    rows = torch.arange(48)
    matcher = train_matcher(toys, rows, CONFIG, training, tmp_path, 0, "aligner")
    assert not matcher.training and not any(p.requires_grad for p in matcher.parameters())
    unseen = toys.images[48:].float() / 255
    nearest = matcher.matched(unseen, COLOURS / 128 - 1).argmax(dim=1)
    assert torch.equal(nearest, toys.of[48:])
    assert (tmp_path / "aligner.safetensors").is_file()


def test_the_loss_is_of_both_directions_over_the_whole_batch(toys, tmp_path):
    """Of the first batch, from the weights that the seed gives, in numpy."""
    training = MatcherTraining(LoopConfig(1, 16, 1e-3, 1))
    rows = torch.arange(63, 47, -1)  # one batch of 16
    found, other = (
        train_matcher(toys, rows, CONFIG, training, folder, 5, "judge", Execution(passes=passes))
        for folder, passes in ((tmp_path, 1), (tmp_path / "other", 4))  # of which it makes one
    )
    for one, same in zip(found.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)
    torch.manual_seed(5)
    network = Matcher(CONFIG)  # in training: norms are of the batch
    own = rows[next(epoch_batches(16, 16, 5, 0))]
    with torch.no_grad():
        embeddings = network.embeddings(toys.images[own].float() / 255).double().numpy()
    weight, bias = (p.detach().double().numpy() for p in network.head.parameters())
    shown = embeddings @ weight.T + bias
    texts = toys.pooled[own].double().numpy()
    shown, texts = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (shown, texts))
    logits = shown @ texts.T / 0.07
    losses = [-np.diag(special.log_softmax(logits, axis=axis)).mean() for axis in (0, 1)]
    events = EventAccumulator(str(tmp_path / "tensorboard" / "judge")).Reload()
    (loss,), (accuracy,) = (events.Scalars(f"judge/{name}") for name in ("loss", "accuracy"))
    assert loss.value == pytest.approx(np.mean(losses), rel=1e-5)
    assert accuracy.value == pytest.approx((logits.argmax(axis=1) == np.arange(16)).mean())


def test_rows_that_are_left_out_teach_nothing(toys, tmp_path):
    training, rows = MatcherTraining(LoopConfig(1, 16, 1e-3, 1)), torch.arange(0, 64, 2)
    changed = replace(toys, images=toys.images.clone(), pooled=toys.pooled.clone())
    changed.images[1::2], changed.pooled[1::2] = 0, 9
    states = [
        train_matcher(versions, rows, CONFIG, training, tmp_path / str(i), 0, "x").state_dict()
        for i, versions in enumerate((toys, changed))
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_embeddings_of_unit_variance_say_the_same(toys, tmp_path):
    training = MatcherTraining(LoopConfig(5, 16, 1e-2, 5))
    matcher = train_matcher(toys, torch.arange(64), CONFIG, training, tmp_path, 0, "judge")
    images, texts = toys.images.float() / 255, COLOURS / 128 - 1
    before, logits = matcher.embeddings(images).numpy(), matcher.matched(images, texts)
    bring_to_unit_variance(matcher, matcher.embeddings(images))
    found = matcher.embeddings(images).numpy()
    variance = found.var(axis=0, ddof=1).mean()
    assert variance == pytest.approx(1, rel=1e-4) and before.var(axis=0, ddof=1).mean() < 0.5
    np.testing.assert_allclose(found / found.max(), before / before.max(), atol=1e-5)
    torch.testing.assert_close(matcher.matched(images, texts), logits, rtol=1e-4, atol=1e-4)
