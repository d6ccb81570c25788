"""A small bundle and a run folder on it, as nat-train would leave it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agents.learners.config import TrainConfig
from agents.learners.network import AdaNATNetwork
from agents.learners.trained import LearnedPolicy
from agents.runs.checkpoint import save_policy, save_run_config
from eval.judges.judge import Judge
from nat_env.actions import ActionMap
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.reals import TensorReals


@pytest.fixture(scope="session")
def digits() -> Bundle:
    return load_bundle("digits", dtype="float32")


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


@pytest.fixture
def make_run(tmp_path: Path, digits: Bundle) -> Callable[..., Path]:
    """Gives run folders with a policy that adapts: its head is random, not zero."""

    def make(
        name: str = "run", num_steps: int = 2, bundle: str = "digits", weights: int = 0
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        config = TrainConfig(folder, bundle=bundle, num_steps=num_steps, hidden_size=16)
        with torch.random.fork_rng():
            torch.manual_seed(weights)
            actor = AdaNATNetwork(
                digits.nat.feature_size, digits.nat.feature_grid, 4, config.hidden_size
            )
            torch.nn.init.normal_(actor.head.weight, std=0.5)
        save_run_config(folder, config, digits)
        save_policy(folder, "best", LearnedPolicy(actor, ActionMap(), 0.3, num_steps), {})
        return folder

    return make
