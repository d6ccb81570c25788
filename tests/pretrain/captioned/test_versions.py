"""Versions of images: which are moved, which wording each has, and in which numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pretrain.captioned.versions import VersionsConfig, distinct, table_of, versions_of

CPU = torch.device("cpu")
CONFIG = VersionsConfig(count=8)


def made(data, sentences, config=CONFIG, numbers=None, seed=0, size=8):
    numbers = torch.arange(len(data.images)) if numbers is None else numbers
    return versions_of(data, sentences, numbers, size, config, seed, CPU)


def blocks(images):
    """Images [n, 3, 16, 16] uint8 at half the side, as numpy has it."""
    means = images.numpy().reshape(-1, 3, 8, 2, 8, 2).mean(axis=(3, 5))
    return np.floor(means + 0.5)


def test_the_first_version_is_the_image_with_its_own_caption(data, sentences, toy_text):
    numbers = torch.tensor([7, 3, 44])
    found = made(data, sentences, numbers=numbers)
    assert found.of.tolist() == [7] * 8 + [3] * 8 + [44] * 8
    assert found.images.shape == (24, 3, 8, 8) and found.images.dtype == torch.uint8
    assert not found.moved[::8].any()
    np.testing.assert_allclose(found.images[::8], blocks(data.images[numbers]), atol=1)
    captions = [data.captions[number] for number in numbers]
    expected = toy_text.ToySentences(data.styles).encode(captions)[1]
    assert torch.equal(found.pooled[::8], expected.half())


def test_others_are_moved_or_the_image_itself(data, sentences):
    found = made(data, sentences)
    expected = blocks(data.images)[found.of]
    still = ~found.moved.numpy()
    np.testing.assert_allclose(found.images[still], expected[still], atol=1)
    apart = np.abs(found.images.numpy() - expected).max(axis=(1, 2, 3))
    assert (apart[~still] > 1).mean() > 0.99


def test_shares_are_near_what_is_asked(data, sentences):
    found = made(data, sentences, replace(CONFIG, count=41, jitter=0.0))
    others = torch.arange(len(found.of)) % 41 > 0
    assert others.sum() == 2400
    described, style = found.pooled[others].float().split([4, 2], dim=1)
    untold = (style == 0).all(dim=1)
    assert torch.equal(style[~untold].argmax(1), data.style[found.of[others]][~untold])
    assert (style[~untold].amax(1) == 8).all() and (style[~untold].amin(1) == 0).all()
    said = [
        [j for j, text in enumerate(data.descriptions[i]) if torch.equal(sentences[text], row)]
        for i, row in zip(found.of[others].tolist(), described, strict=True)
    ]
    assert all(len(which) == 1 for which in said)  # one of the image's own three wordings
    own = np.mean([which == [0] for which in said])
    for share, expected in (
        (found.moved[others].float().mean(), 0.7),
        (untold.float().mean(), 0.1),
        (own, 0.5 + 0.5 / 3),
    ):
        assert float(share) == pytest.approx(expected, abs=5 * (expected / 2400) ** 0.5)


def test_noise_is_on_the_description_alone(data, sentences):
    still, noisy = (made(data, sentences, replace(CONFIG, jitter=j)).pooled for j in (0.0, 0.3))
    difference = (noisy.double() - still.double()).numpy()
    assert not difference[::8].any() and not difference[:, 4:].any()
    others = np.arange(len(difference)) % 8 > 0
    assert difference[others, :4].std() == pytest.approx(0.3, rel=0.05)
    assert abs(difference[others, :4].mean()) < 0.03


def test_the_same_seed_gives_the_same_versions(data, sentences):
    first, again, other = (made(data, sentences, seed=seed) for seed in (3, 3, 4))
    for name in ("images", "pooled", "moved", "of"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.moved, other.moved) and not torch.equal(first.pooled, other.pooled)


def test_the_table_is_what_the_encoder_says_of_the_captions(data, sentences, toy_text):
    table = table_of(data, sentences)
    expected = toy_text.ToySentences(data.styles).encode(data.captions)[1]
    assert torch.equal(table[:-1], expected.half())
    assert not table[-1].any()


def test_every_wording_once():
    assert distinct([("b", "a"), ("b",), ("c", "a")]) == ["b", "a", "c"]


def test_the_table_has_the_layout_of_the_sentence_encoder(data):
    """As `StyledSentences` itself says of a caption, so that prompts are encoded into it."""
    from nat_env.text.sentences import StyledSentences

    encoder = StyledSentences(data.styles)
    texts = distinct(data.descriptions)
    bare = encoder.encode(texts)[1][:, : -len(data.styles)]
    table = table_of(data, dict(zip(texts, bare, strict=True)))
    torch.testing.assert_close(
        table[:5].float(), encoder.encode(data.captions[:5])[1], atol=2e-3, rtol=1e-3
    )
