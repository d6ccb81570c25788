"""The published sizes of U-ViT, prompts in place of classes, patches of several tokens."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import nat_env.models.context
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.writer import save_bundle
from nat_env.frozen.conditions import Conditions
from nat_env.models.context import ContextTable
from nat_env.models.kinds import load_part, save_part
from nat_env.models.uvit import UVIT_SIZES, UViT, UViTConfig

TINY = UViTConfig(7, (4, 2), 3, hidden_size=8, depth=3, num_heads=2, dropout=0.0)
TEXT = replace(TINY, num_classes=0, context_length=5, context_size=6)


def made(config, seed=0):
    torch.manual_seed(seed)
    model = UViT(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += torch.randn_like(weight) * 0.3
    return model.requires_grad_(False)


def prompts(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(count + 1, 5, 6, generator=generator)
    return Conditions(tuple(f"prompt {seed}, {n}" for n in range(count)), context)


def on_meta(config):
    """The network, and one canvas with its condition, without numbers."""
    with torch.device("meta"):
        model = UViT(config)
        ids, condition = (torch.empty(shape, dtype=torch.int64) for shape in ((1, 256), (1,)))
    return model, ids.expand(1, 256).new_empty(1, config.num_tokens), condition


@pytest.mark.parametrize(
    ("size", "millions", "digits"), [("S", 45.55, 2), ("B", 102, 0), ("L", 193.66, 2)]
)
def test_the_published_numbers_of_parameters(size, millions, digits):
    config = UVIT_SIZES[size]
    model, _, _ = on_meta(config)
    count = sum(p.numel() for p in model.parameters())
    # The authors' class has a position of its own, and the mask's logit a bias.
    assert round((count + config.hidden_size + 1) / 1e6, digits) == millions


def test_the_published_text_model():
    model, ids, condition = on_meta(UVIT_SIZES["Muse-CC3M"])
    count = sum(p.numel() for p in model.parameters())
    assert round((count + 1) / 1e6, 1) == 503.6
    with torch.device("meta"):
        model._prompts = ContextTable(torch.empty(3, 77, 1280))
    output = model(ids, condition)
    assert output.features.shape == (1, 256, 1152) and output.logits.shape == (1, 256, 1024)


@pytest.mark.parametrize(("size", "billions"), [("S", 12.4), ("L", 52.0)])
def test_the_published_multiply_adds_of_a_pass(size, billions):
    model, ids, condition = on_meta(UVIT_SIZES[size])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids, condition)
    assert round(counter.get_total_flops() / 2e9, 1) == billions


def test_imagenet_at_512_pixels_costs_little_more():
    model, ids, condition = on_meta(replace(UVIT_SIZES["L"], grid=(32, 32), patch_size=2))
    assert (model.num_tokens, model.feature_grid) == (1024, (16, 16))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        output = model(ids, condition)
    assert output.features.shape == (1, 256, 768) and output.logits.shape == (1, 1024, 1024)
    merging = unfolding = 256 * 4 * 768**2
    # The head is at 1024 tokens in place of 256.
    head = 768 * (1024 - 256) * (768 + 1024)
    expected = 52.002e9 + merging + unfolding + head
    assert counter.get_total_flops() / 2 == pytest.approx(expected, rel=1e-4)


def test_a_pass_with_prompts_attends_to_their_projected_tokens():
    """The blocks of a class-conditional one, by hand, on the projected context in its place."""
    model, table = made(TEXT), prompts(3)
    ids = torch.randint(8, (4, 8), generator=torch.Generator().manual_seed(1))
    condition = torch.tensor([2, 0, 3, 1])
    output = model.with_conditions(table)(ids, condition)
    state = model.state_dict()
    context = F.linear(
        table.context[condition], state["context_embed.weight"], state["context_embed.bias"]
    )
    x = model.token_norm(state["token_embedding.weight"][ids] + state["position_embedding"])
    first = model.in_blocks[0](torch.cat([context, x], dim=1))
    last = model.out_blocks[0](model.mid_block(first), first)
    torch.testing.assert_close(output.features, model.norm(last)[:, 5:])
    torch.testing.assert_close(output.logits, model.logits(model.norm(last)[:, 5:]))


def test_another_table_shares_the_weights():
    model = made(TEXT)
    first, second = (model.with_conditions(prompts(n, seed=n)) for n in (1, 4))
    assert all(a is b for a, b in zip(first.parameters(), second.parameters(), strict=True))
    canvas = torch.full((1, 8), model.mask_id)
    one, other = (m(canvas, torch.tensor([0])).logits for m in (first, second))
    assert (one - other).abs().max() > 1e-3
    # Nor does a table that is given later change the first one's.
    assert torch.equal(first(canvas, torch.tensor([0])).logits, one)
    assert set(second.state_dict()) == set(model.state_dict())
    second.to(torch.bfloat16)
    assert first.position_embedding.dtype == torch.bfloat16
    rounded = first(canvas, torch.tensor([0])).logits
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), one, rtol=0.1, atol=0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_prompt_of_one_token_may_be_the_pooled_vector(dtype):
    model = made(replace(TEXT, context_length=1))
    pooled = torch.randn(4, 6, generator=torch.Generator().manual_seed(3)).to(dtype)
    names = ("a", "b", "c")
    once = model.with_conditions(Conditions(names, pooled=pooled))
    twice = model.with_conditions(Conditions(names, pooled[:, None].float(), pooled * 2))
    canvas, condition = torch.full((4, 8), 7), torch.tensor([2, 0, 3, 1])
    assert torch.equal(once(canvas, condition).logits, twice(canvas, condition).logits)
    with pytest.raises(ValueError, match=r"^conditions: got a context of \(4, 1, 7\), .*\(4, 1, 6"):
        model.with_conditions(Conditions(names, pooled=torch.zeros(4, 7)))
    with pytest.raises(ValueError, match=r"^conditions: got a context of None, .*\(4, 5, 6"):
        made(TEXT).with_conditions(Conditions(names, pooled=pooled))


@pytest.mark.parametrize("resident", [0, 2**20])
def test_rows_of_a_table_are_the_same_whether_it_is_copied_or_not(monkeypatch, resident):
    monkeypatch.setattr(nat_env.models.context, "RESIDENT_BYTES", resident)
    values = torch.arange(12.0).view(4, 3)
    table = ContextTable(values.to(torch.float16))
    rows = table.rows(torch.tensor([3, 0, 3]), torch.float32)
    assert rows.dtype == torch.float32
    assert torch.equal(rows, values[[3, 0, 3]])
    assert table._table.dtype == (torch.float32 if resident else torch.float16)


def test_prompts_and_classes_are_not_mixed_up():
    text, classes = made(TEXT), made(TINY)
    canvas, condition = torch.full((1, 8), 7), torch.tensor([0])
    with pytest.raises(ValueError, match=r"^conditions: got none, .*with_conditions"):
        text(canvas, condition)
    with pytest.raises(ValueError, match=r"^conditions: got a context of None, allowed is \(3, 5"):
        text.with_conditions(Conditions(("a", "b")))
    longer = Conditions(("a",), torch.zeros(2, 4, 6))
    with pytest.raises(ValueError, match=r"^conditions: got a context of \(2, 4, 6\), .*\(2, 5, 6"):
        text.with_conditions(longer)
    with pytest.raises(ValueError, match=r"^transformer: has 3 classes, the bundle 2"):
        classes.with_conditions(Conditions(("a", "b")))
    same = classes.with_conditions(Conditions(("a", "b", "c")))
    assert torch.equal(same(canvas, condition).logits, classes(canvas, condition).logits)


def test_patches_merge_and_unfold_tokens_where_they_are():
    """By loops over places and over tokens of each."""
    config = replace(TINY, grid=(4, 6), patch_size=2)
    model = made(config)
    state = {k: v.double().numpy() for k, v in model.state_dict().items()}
    ids = torch.randint(8, (1, 24), generator=torch.Generator().manual_seed(2))
    merged = []
    model.in_blocks[0].register_forward_hook(lambda _, args, __: merged.append(args[0]))
    output = model(ids, torch.tensor([1]))
    tokens = model.token_norm(model.token_embedding(ids) + model.position_embedding)[0]
    tokens = tokens.double().numpy().reshape(4, 6, 8)
    features = output.features[0].double().numpy()
    assert features.shape == (6, 8) and model.feature_grid == (2, 3)
    hidden = np.zeros((4, 6, 8))
    for y in range(2):
        for x in range(3):
            place = state["patch_embed.bias"].copy()
            for dy in range(2):
                for dx in range(2):
                    kernel = state["patch_embed.weight"][:, :, dy, dx]
                    place += kernel @ tokens[2 * y + dy, 2 * x + dx]
                    rows = slice((2 * dy + dx) * 8, (2 * dy + dx + 1) * 8)
                    hidden[2 * y + dy, 2 * x + dx] = (
                        state["decoder_pred.weight"][rows] @ features[y * 3 + x]
                        + state["decoder_pred.bias"][rows]
                    )
            np.testing.assert_allclose(merged[0][0, 1 + y * 3 + x], place, rtol=1e-4, atol=1e-4)
    expected = model.logits(torch.from_numpy(hidden.reshape(24, 8)).float())
    torch.testing.assert_close(output.logits[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 2, "grid": (4, 3)}, r"^patch_size: got 2, must divide the grid \(4, 3\)"),
        ({"patch_size": 0}, r"^patch_size: got 0"),
        ({"num_classes": 0}, r"^num_classes: got 0 with .* \(0, 0\)"),
        ({"context_size": 4}, r"^num_classes: got 3 with .* \(0, 4\)"),
        ({"context_size": 4, "context_length": 2}, r"^num_classes: got 3 with .* \(2, 4\)"),
        ({"num_heads": 0}, r"^num_heads: got 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)


@pytest.mark.parametrize("name", ["digits", "fashion"])
def test_bundles_before_prompts_and_patches_are_the_same(name):
    """What they ship has no such sizes."""
    transformer = load_bundle(name, "float32").nat.transformer
    config = transformer.config
    assert (config.patch_size, config.context_size, config.context_length) == (1, 0, 0)
    assert config.feature_grid == config.grid
    with torch.random.fork_rng():
        assert set(UViT(config).state_dict()) == set(transformer.state_dict())


@pytest.mark.parametrize("config", [TEXT, replace(TINY, patch_size=2)], ids=["text", "patches"])
def test_it_is_kept(config, tmp_path):
    conditions = prompts(3) if config.context_size else Conditions(("a", "b", "c"))
    model = made(config).with_conditions(conditions)
    description = json.loads(json.dumps(save_part(tmp_path, "transformer", model)))
    loaded = load_part(tmp_path, "transformer", description, conditions).eval()
    assert loaded.config == config
    ids, condition = torch.full((4, 8), 7), torch.arange(4)
    for a, b in zip(loaded(ids, condition), model(ids, condition), strict=True):
        assert torch.equal(a, b)


def test_a_bundle_of_prompts_holds_their_table(tmp_path):
    digits, conditions = load_bundle("digits", "float32"), prompts(3)
    config = replace(TEXT, codebook_size=64, grid=(4, 4), patch_size=2)
    model = made(config).with_conditions(conditions)
    save_bundle(
        tmp_path / "text",
        name="text",
        conditions=conditions,
        transformer=model,
        tokenizer=digits.tokenizer,
    )
    bundle = load_bundle(tmp_path / "text", "float32")
    assert bundle.conditions.names == conditions.names
    assert bundle.nat.feature_grid == (2, 2)
    passes = bundle.nat.passes(torch.full((2, 16), 64), torch.tensor([0, 2]))
    expected = model(torch.full((3, 16), 64), torch.tensor([0, 2, 3]))
    torch.testing.assert_close(passes.logits, expected.logits[:2])
    torch.testing.assert_close(passes.null_logits[1], expected.logits[2])
