"""One torch thread: two of them beside another busy process wait for each other."""

import gc
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def images_alive(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[int]]:
    """Of a bundle: the list of how many more images are in memory whenever a batch is decoded.

    Counted are all float tensors of the images' shape, views by what they keep in memory.
    """

    def watch(bundle: Any) -> list[int]:
        counts: list[int] = []
        shape, decode = bundle.reals.images.shape[1:], bundle.tokenizer.decode

        def alive() -> dict[int, torch.UntypedStorage]:
            storages = (
                part.untyped_storage()
                for part in gc.get_objects()
                if type(part) is torch.Tensor
                and part.shape[1:] == shape
                and part.dtype == torch.float32
            )
            return {storage.data_ptr(): storage for storage in storages}

        before = alive()  # kept, so that no new image gets the place of one of these

        def spy(ids: torch.Tensor) -> torch.Tensor:
            new = [storage.nbytes() for place, storage in alive().items() if place not in before]
            counts.append(sum(new) // (4 * shape.numel()))
            return decode(ids)

        monkeypatch.setattr(bundle.tokenizer, "decode", spy)
        return counts

    return watch


@pytest.fixture
def small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `digits`, for commands that train from presets: rounds of seconds, each evaluated."""
    from agents.learners.config import PRESETS

    small = replace(
        PRESETS["digits"][1],
        num_steps=2,
        trajectories_per_round=64,
        hidden_size=16,
        batch_size=32,
        warmup_rounds=1,
        discriminator_updates=2,
        eval_every=1,
        num_samples=50,
    )
    monkeypatch.setitem(PRESETS, "digits", ("", small))


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Any, Any], None]:
    """Equal to the bit through dicts, lists and tensors, and of equal types."""

    def check(left: Any, right: Any) -> None:
        assert type(left) is type(right)
        if isinstance(left, dict):
            assert left.keys() == right.keys()
            for key in left:
                check(left[key], right[key])
        elif isinstance(left, list | tuple):
            assert len(left) == len(right)
            for a, b in zip(left, right, strict=True):
                check(a, b)
        elif isinstance(left, torch.Tensor):
            assert torch.equal(left, right)
        else:
            assert left == right

    return check


@pytest.fixture
def toy_text(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module `toy_text`, whose models have kinds."""
    from nat_env.models.kinds import KINDS

    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.delitem(sys.modules, "toy_text", raising=False)
    monkeypatch.setitem(KINDS["transformer"], "toy-text", "toy_text:ToyTextTransformer")
    monkeypatch.setitem(KINDS["tokenizer"], "squares", "toy_text:Squares")
    monkeypatch.setitem(KINDS["text_encoder"], "toy", "toy_text:ToyTextEncoder")
    import toy_text

    return toy_text


@pytest.fixture
def text_folder(toy_text: Any, tmp_path: Path) -> Path:
    """A bundle of the prompts `a bb` and `ccc d`, with a text encoder."""
    from nat_env.bundles.writer import save_bundle
    from nat_env.frozen.conditions import Conditions

    encoder = toy_text.ToyTextEncoder()
    context, pooled = encoder.encode(["a bb", "ccc d"])
    none = torch.zeros(1, 4, 2)
    conditions = Conditions(
        ("a bb", "ccc d"), torch.cat([context, none]), torch.cat([pooled, none[:, 0] - 1])
    )
    save_bundle(
        tmp_path / "text bundle",
        name="toy",
        conditions=conditions,
        transformer=toy_text.ToyTextTransformer(conditions),
        tokenizer=toy_text.Squares(),
        text_encoder=encoder,
    )
    return tmp_path / "text bundle"
