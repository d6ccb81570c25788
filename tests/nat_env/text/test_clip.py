"""CLIP's text tower against transformers' own way of calling it."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from nat_env.frozen.conditions import Conditions
from nat_env.models.kinds import load_part, save_part
from nat_env.text.clip import CLIPTextEncoder

PROMPTS = ["a cat", "two dogs", "a"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny text tower with random weights, letters for tokens and 12 positions."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip-text")
    letters = "abcdefghijklmnopqrstuvwxyz!"
    tokens = [*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    end = len(tokens) - 1
    config = CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=2, max_position_embeddings=12, projection_dim=8,
        initializer_factor=8.0, bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPTextModelWithProjection(config).save_pretrained(folder)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=12).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pad_id", [None, 26])
@pytest.mark.parametrize("hidden_state", ["last", "second-last"])
def test_encodes_as_transformers_does(folder, hidden_state, pad_id):
    from transformers import AutoTokenizer, CLIPTextModelWithProjection

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if pad_id is not None:
        tokenizer.pad_token = "!</w>" if pad_id != 26 else "!"
    inputs = tokenizer(PROMPTS, padding="max_length", max_length=12, return_tensors="pt")
    assert inputs.input_ids[2, -1] == (53 + 2 if pad_id is None else pad_id)
    model = CLIPTextModelWithProjection.from_pretrained(folder).eval()
    with torch.no_grad():
        output = model(inputs.input_ids, output_hidden_states=True)
    context, pooled = CLIPTextEncoder.from_folder(folder, hidden_state, pad_id).encode(PROMPTS)
    expected = {"last": output.last_hidden_state, "second-last": output.hidden_states[-2]}
    assert context.shape == (3, 12, 16) and pooled.shape == (3, 8)
    torch.testing.assert_close(context, expected[hidden_state], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled, output.text_embeds, rtol=1e-5, atol=1e-5)
    other = {"last": output.hidden_states[-2], "second-last": output.last_hidden_state}
    assert (context - other[hidden_state]).abs().max() > 0.1


def test_a_prompt_too_long_is_refused_not_cut_off(folder):
    encoder = CLIPTextEncoder.from_folder(folder)
    assert encoder.max_length == 12
    assert encoder.lengths(["a cat", "abcdefghij", "abcdefghijk"]) == [6, 12, 13]
    encoder.encode(["abcdefghij"])
    with pytest.raises(ValueError, match=r"^prompts: got 'abcdefghijk' of 13 tokens, .* up to 12"):
        encoder.encode(["a", "abcdefghijk"])
    for nothing in ([], [""], "a cat"):
        with pytest.raises(ValueError, match=r"^prompts: got "):
            encoder.encode(nothing)


def test_saved_and_loaded_it_is_the_same(folder, tmp_path):
    encoder = CLIPTextEncoder.from_folder(folder, "second-last", 26)
    described = save_part(tmp_path, "text_encoder", encoder)
    described = json.loads(json.dumps(described))
    again = load_part(tmp_path, "text_encoder", described, Conditions(("a",)))
    for one, other in zip(encoder.encode(PROMPTS), again.encode(PROMPTS), strict=True):
        assert torch.equal(one, other)
    assert again.fingerprint == encoder.fingerprint
    assert not any(path.is_dir() for path in (tmp_path / "text_encoder").iterdir())


def test_the_fingerprint_tells_what_changes_the_embeddings(folder, tmp_path):
    one = CLIPTextEncoder.from_folder(folder)
    assert one.fingerprint == CLIPTextEncoder.from_folder(folder).fingerprint
    others = [CLIPTextEncoder.from_folder(folder, *o) for o in [("second-last",), ("last", 26)]]
    changed = CLIPTextEncoder.from_folder(folder)
    changed.model.text_projection.weight.data[0, 0] += 1
    assert len({one.fingerprint, changed.fingerprint, *(o.fingerprint for o in others)}) == 4


def test_what_is_no_text_encoder_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"^text_encoder: got '.*nowhere', allowed is a folder"):
        CLIPTextEncoder.from_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"^hidden_state: got 'first'"):
        CLIPTextEncoder.from_folder(folder, "first")
    with pytest.raises(ValueError, match=r"^pad_id: got 99"):
        CLIPTextEncoder.from_folder(folder, pad_id=99)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"^text_encoder: .* lacks 1 .*text_projection.weight"):
        CLIPTextEncoder.from_folder(tmp_path)
