"""A small bundle and a run folder on it, as nat-train would leave it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

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


CAPTIONS = 60
"""Of `captioned_folder`; the last `NOT_SHIPPED` have no real image in it."""

NOT_SHIPPED = 12


@pytest.fixture
def captioned_folder(toy_text: Any, tmp_path: Path) -> Path:
    """A bundle of 60 prompts with a judge, and one real image of each of the first 48."""
    from nat_env.bundles.statistics import GaussianStatistics
    from nat_env.bundles.writer import save_bundle
    from nat_env.bundles.yardstick import Yardstick
    from nat_env.frozen.conditions import Conditions
    from nat_env.models.classifier import Classifier, ClassifierConfig, embeddings_of

    encoder = toy_text.ToyTextEncoder()
    prompts = [f"{'a' * (1 + i % 4)} {'b' * (1 + i // 4 % 4)} {'c' * (1 + i // 16)}"
               for i in range(CAPTIONS)]  # fmt: skip
    context, pooled = encoder.encode(prompts)
    context, pooled = (torch.cat([rows, torch.zeros(1, *rows.shape[1:])])
                       for rows in (context, pooled))  # fmt: skip
    conditions = Conditions(tuple(prompts), context, pooled)
    generator = torch.Generator().manual_seed(0)
    clean = torch.stack([toy_text.drawn(prompt) for prompt in prompts])
    noise = torch.randint(0, 60, clean.shape, generator=generator)
    images = ((clean * 195).long() + noise).to(torch.uint8)
    order = torch.randperm(CAPTIONS - NOT_SHIPPED, generator=generator)
    torch.manual_seed(0)
    judge = Classifier(ClassifierConfig(1, CAPTIONS, widths=(3, 4))).eval()
    statistics = GaussianStatistics.from_embeddings(embeddings_of(judge, images).detach())
    save_bundle(
        tmp_path / "captioned",
        name="captioned",
        conditions=conditions,
        transformer=toy_text.ToyTextTransformer(conditions),
        tokenizer=toy_text.Squares(),
        yardstick=Yardstick("captioned-judge", judge, statistics),
        trunk=judge,
        reals=TensorReals(images[order], order),
        text_encoder=encoder,
    )
    return tmp_path / "captioned"


@pytest.fixture
def uneven(digits: Bundle) -> Bundle:
    """1,000 dark images of class 0 and 100 bright ones of class 1."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 1000 + [1] * 100)
    noise = torch.randint(0, 26, (len(labels), 1, 8, 8), generator=generator)
    images = (noise + 204 * labels[:, None, None, None]).to(torch.uint8)
    return replace(digits, reals=TensorReals(images, labels), fingerprint="uneven")
