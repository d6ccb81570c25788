"""A small bundle and a run folder on it, as nat-train would leave it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eval.judges.judge import Judge
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.reals import TensorReals


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Embeddings of real images are kept apart from the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def pixels() -> Judge:
    """A second judge: means over quarters of an image."""

    def network(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

    return Judge("pixels", network)


@pytest.fixture
def uneven(digits: Bundle) -> Bundle:
    """1,000 dark images of class 0 and 100 bright ones of class 1."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 1000 + [1] * 100)
    noise = torch.randint(0, 26, (len(labels), 1, 8, 8), generator=generator)
    images = (noise + 204 * labels[:, None, None, None]).to(torch.uint8)
    return replace(digits, reals=TensorReals(images, labels), fingerprint="uneven")
