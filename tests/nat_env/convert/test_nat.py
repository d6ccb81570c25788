"""The authors' files: their names, their equations on their tensors, and files that do not fit."""

import json
import math
import pickle
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from nat_env.bundles.loading import load_bundle
from nat_env.commands.command_line import run_command
from nat_env.commands.entry import COMMANDS
from nat_env.convert.arguments import ConvertNAT
from nat_env.convert.nat import convert_nat
from nat_env.models.maskgit_vqgan import MaskGITVQGAN, MaskGITVQGANConfig

HEADS = 2


def published_shapes(layout, size=8, half=1, side=16, codes=1024, classes=1000, text=6, patch=1):
    """Of the authors' files, by name; `half` is the number of blocks on each side of the middle."""
    words, places = codes + 1, side**2
    if layout == "muse":
        words, places = words + classes + 1, places + 1
    shapes = {
        "token_emb.word_embeddings.weight": (words, size),
        "token_emb.position_embeddings.weight": (places, size),
        "token_emb.LayerNorm.weight": (size,),
        "token_emb.LayerNorm.bias": (size,),
        "norm.weight": (size,),
        "norm.bias": (size,),
        "mlm_layer.bias": (1, 1, words),
        "mlm_layer.fc.weight": (size, size),
        "mlm_layer.fc.bias": (size,),
        "mlm_layer.ln.weight": (size,),
        "mlm_layer.ln.bias": (size,),
    }
    if layout == "autonat":
        shapes |= {
            "context_embed.word_embeddings.weight": (classes + 1, size),
            "context_embed.position_embeddings.weight": (1, size),
            "context_embed.LayerNorm.weight": (size,),
            "context_embed.LayerNorm.bias": (size,),
        }
    if layout == "cc3m":
        shapes |= {"context_embed.weight": (size, text), "context_embed.bias": (size,)}
    if patch > 1:
        shapes |= {
            "patch_embed.proj.weight": (size, size, patch, patch),
            "patch_embed.proj.bias": (size,),
            "decoder_pred.weight": (patch**2 * size, size),
            "decoder_pred.bias": (patch**2 * size,),
        }
    blocks = ["mid_block"]
    blocks += [f"{side}_blocks.{n}" for side in ("in", "out") for n in range(half)]
    for block in blocks:
        shapes |= {
            f"{block}.norm1.weight": (size,),
            f"{block}.norm1.bias": (size,),
            f"{block}.attn.qkv.weight": (3 * size, size),
            f"{block}.attn.proj.weight": (size, size),
            f"{block}.attn.proj.bias": (size,),
            f"{block}.norm2.weight": (size,),
            f"{block}.norm2.bias": (size,),
            f"{block}.mlp.fc1.weight": (4 * size, size),
            f"{block}.mlp.fc1.bias": (4 * size,),
            f"{block}.mlp.fc2.weight": (size, 4 * size),
            f"{block}.mlp.fc2.bias": (size,),
        }
        if block.startswith("out"):
            shapes |= {
                f"{block}.skip_linear.weight": (size, 2 * size),
                f"{block}.skip_linear.bias": (size,),
            }
    return shapes


def random_state(layout, **sizes):
    generator = torch.Generator().manual_seed(len(layout))
    state = {}
    for name, shape in published_shapes(layout, **sizes).items():
        scale = 0.3 if len(shape) == 2 else 0.5
        state[name] = torch.randn(shape, generator=generator) * scale
        if name.endswith(("norm1.weight", "norm2.weight", "Norm.weight", "ln.weight")):
            state[name] += 1
    return state


def authors_pass(state, layout, ids, given, codes, half=1, patch=1):
    """Features and logits in the authors' layout, float64.

    Args:
        state: their tensors.
        layout: of which kind.
        ids: [B, N].
        given: classes [B], or context [B, L, E].
        codes: K.
        half: blocks on each side of the middle.
        patch: tokens along a side of one place.
    """
    state = {name: tensor.double() for name, tensor in state.items()}
    size = state["norm.weight"].numel()

    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name, x, eps=1e-5):
        return F.layer_norm(x, (size,), state[f"{name}.weight"], state[f"{name}.bias"], eps)

    def embedded(part, words):
        places = state[f"{part}.position_embeddings.weight"][: words.shape[1]]
        x = state[f"{part}.word_embeddings.weight"][words] + places
        return norm(f"{part}.LayerNorm", x, 1e-6)

    def block(name, x, skip=None):
        if skip is not None:
            x = linear(f"{name}.skip_linear", torch.cat([x, skip], dim=2))
        batch, length, _ = x.shape
        qkv = linear(f"{name}.attn.qkv", norm(f"{name}.norm1", x))
        q, k, v = (t.view(batch, length, HEADS, -1).transpose(1, 2) for t in qkv.chunk(3, dim=2))
        weights = (q @ k.transpose(2, 3) / math.sqrt(size / HEADS)).softmax(dim=3)
        mixed = (weights @ v).transpose(1, 2).reshape(batch, length, size)
        x = x + linear(f"{name}.attn.proj", mixed)
        return x + linear(
            f"{name}.mlp.fc2", F.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x)))
        )

    if layout == "muse":
        x = embedded("token_emb", torch.cat([given[:, None] + codes + 1, ids], dim=1))
        extras = 1
    else:
        if layout == "cc3m":
            context = linear("context_embed", given.double())
        else:
            context = embedded("context_embed", given[:, None])
        x, extras = torch.cat([context, embedded("token_emb", ids)], dim=1), context.shape[1]
    side = math.isqrt(ids.shape[1])
    if patch > 1:
        image = x[:, extras:].reshape(-1, side, side, size).permute(0, 3, 1, 2)
        kernel, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
        merged = F.conv2d(image, kernel, bias, stride=patch).flatten(2).transpose(1, 2)
        x = torch.cat([x[:, :extras], merged], dim=1)
    skips = []
    for number in range(half):
        x = block(f"in_blocks.{number}", x)
        skips.append(x)
    x = block("mid_block", x)
    for number in range(half):
        x = block(f"out_blocks.{number}", x, skips.pop())
    x = norm("norm", x)
    features = x[:, extras:]
    if patch > 1:
        pieces, coarse = linear("decoder_pred", features), side // patch
        pieces = pieces.view(len(x), coarse, coarse, patch, patch, size)
        rows = [
            pieces[:, h // patch, w // patch, h % patch, w % patch]
            for h in range(side)
            for w in range(side)
        ]
        x = torch.cat([x[:, :extras], torch.stack(rows, dim=1)], dim=1)
    hidden = norm("mlm_layer.ln", F.gelu(linear("mlm_layer.fc", x)))
    logits = hidden @ state["token_emb.word_embeddings.weight"].T + state["mlm_layer.bias"]
    return features, logits[:, extras:, :codes]


@pytest.fixture(scope="module")
def vqgan(tmp_path_factory):
    """A file of the published 168 names and 1024 codes, of a quarter of the width."""
    torch.manual_seed(0)
    model = MaskGITVQGAN(MaskGITVQGANConfig(latent_channels=4, width=32))
    assert len(model.state_dict()) == 168
    path = tmp_path_factory.mktemp("vqgan") / "vqgan_jax_strongaug.ckpt"
    torch.save({"state_dict": model.state_dict()}, path)
    return path, model


def options(tmp_path, state, **changes):
    """To convert a file with these tensors, small enough for the tokenizer of `digits`."""
    torch.save(state, tmp_path / "nnet_ema.pth")
    given = {"tokenizer": "digits", "num_heads": HEADS}
    return ConvertNAT(tmp_path / "nnet_ema.pth", out=tmp_path / "out", **(given | changes))


SMALL = {"side": 4, "codes": 64, "classes": 5}


def assert_same_pass(bundle, state, layout, given, **sizes):
    """On canvases with codes and masks, and with the conditions' last one."""
    nat, batch = bundle.nat, len(given)
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(nat.codebook_size + 1, (batch, nat.num_tokens), generator=generator)
    condition = torch.arange(batch)
    condition[-1] = bundle.conditions.null
    features, logits = authors_pass(state, layout, ids, given, nat.codebook_size, **sizes)
    output = nat.transformer(ids, condition)
    torch.testing.assert_close(output.features.double(), features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.logits.double(), logits, rtol=1e-4, atol=2e-4)
    assert logits.std() > 0.5


@pytest.mark.parametrize(
    ("layout", "vocabulary", "positions"), [("autonat", 1025, 256), ("muse", 2026, 257)]
)
def test_an_imagenet_model_of_the_published_vocabulary(
    tmp_path, vqgan, layout, vocabulary, positions
):
    state = random_state(layout, half=2)
    words = state["token_emb.word_embeddings.weight"]
    assert words.shape[0] == state["mlm_layer.bias"].shape[2] == vocabulary
    assert state["token_emb.position_embeddings.weight"].shape[0] == positions
    path, tokenizer = vqgan
    file = state | {"token_emb.position_ids": torch.arange(positions)[None]}
    convert_nat(options(tmp_path, file, tokenizer=str(path)))
    bundle = load_bundle(tmp_path / "out", "float32")
    assert bundle.conditions.names == tuple(map(str, range(1000)))
    assert (bundle.nat.mask_id, bundle.num_tokens) == (1024, 256)
    assert_same_pass(bundle, state, layout, torch.tensor([0, 1, 1000]), half=2)
    ids = torch.randint(1024, (1, 256), generator=torch.Generator().manual_seed(1))
    assert bundle.tokenizer.image_size == (256, 256)
    assert torch.equal(bundle.tokenizer.decode(ids), tokenizer.decode(ids))


def test_auto_nats_l_has_314_tensors_and_muses_position_ids_are_dropped(tmp_path):
    assert len(published_shapes("autonat", half=12)) == 314
    state = random_state("muse", **SMALL)
    convert_nat(options(tmp_path, state | {"token_emb.position_ids": torch.arange(17)[None]}))
    bundle = load_bundle(tmp_path / "out", "float32")
    assert len(bundle.conditions) == 5
    assert_same_pass(bundle, state, "muse", torch.tensor([0, 1, 2, 3, 4, 5]))


def test_patches_of_two(tmp_path):
    state = random_state("muse", patch=2, **SMALL)
    convert_nat(options(tmp_path, state))
    bundle = load_bundle(tmp_path / "out", "float32")
    assert bundle.nat.feature_grid == (2, 2)
    assert_same_pass(bundle, state, "muse", torch.tensor([0, 1, 5]), patch=2)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_text_model_with_a_table_of_prompts(tmp_path, suffix):
    state = random_state("cc3m", **SMALL)
    captions = ["a red cat", "café, outside"]
    context = torch.randn(3, 7, 6, generator=torch.Generator().manual_seed(2))
    pooled, table = torch.eye(3), tmp_path / f"prompts.{suffix}"
    if suffix == "npz":
        np.savez(table, captions=captions, context=context.numpy(), pooled=pooled.numpy())
    else:
        metadata = {"captions": json.dumps(captions)}
        save_file({"context": context, "pooled": pooled}, table, metadata)
    file = state | {"token_emb.position_ids": torch.arange(16)[None]}
    convert_nat(options(tmp_path, file, conditions=table))
    bundle = load_bundle(tmp_path / "out", "float32")
    assert bundle.conditions.names == tuple(captions)
    assert torch.equal(bundle.conditions.pooled, pooled)
    assert_same_pass(bundle, state, "cc3m", context[[0, 1, 2]])


def test_a_text_model_asks_for_prompts(tmp_path):
    state = random_state("cc3m", **SMALL)
    with pytest.raises(ValueError, match=r"^conditions: got none .*`captions`.*`context`"):
        convert_nat(options(tmp_path, state))
    table = tmp_path / "prompts.npz"
    for arrays, message in (
        ({"context": np.zeros((2, 3, 6))}, "captions"),
        ({"captions": ["a"]}, "context"),
        ({"captions": np.array(["a", 3], dtype=object), "context": np.zeros((3, 3, 6))}, "pickle"),
        ({"captions": [1], "context": np.zeros((2, 3, 6))}, "no text"),
    ):
        np.savez(table, **arrays)
        with pytest.raises(ValueError, match=rf"^conditions: .*is no table of prompts.*{message}"):
            convert_nat(options(tmp_path, state, conditions=table))
    np.savez(table, captions=["a"], context=np.zeros((2, 3, 5)))
    with pytest.raises(
        ValueError, match=r"^conditions: got a context of \(2, 3, 5\), .*\(2, 3, 6\)"
    ):
        convert_nat(options(tmp_path, state, conditions=table))
    table.write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"^conditions: .*is no table of prompts"):
        convert_nat(options(tmp_path, state, conditions=table))
    classes = random_state("autonat", **SMALL)
    with pytest.raises(ValueError, match=r"^conditions: got .*'autonat', whose conditions are cl"):
        convert_nat(options(tmp_path, classes, conditions=table))
    assert not (tmp_path / "out").exists()


def test_a_text_model_with_its_text_encoder(tmp_path, amused_folder):
    """A tiny CLIP of 12 positions and 12 numbers, and what transformers says of the prompts."""
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    folder = tmp_path / "clip"
    shutil.copytree(amused_folder / "text_encoder", folder)
    shutil.copytree(amused_folder / "tokenizer", folder, dirs_exist_ok=True)
    state = random_state("cc3m", text=12, **SMALL)
    (tmp_path / "captions.txt").write_text("a cat\nzoo\n")
    given = {"text_encoder": folder, "prompts": tmp_path / "captions.txt"}
    convert_nat(options(tmp_path, state, **given))
    bundle = load_bundle(tmp_path / "out", "float32")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    clip = CLIPTextModelWithProjection.from_pretrained(folder)
    context = []
    for prompt in ("a cat", "zoo", ""):
        tokens = tokenizer(prompt).input_ids
        padded = torch.tensor([tokens + [0] * (12 - len(tokens))])
        with torch.no_grad():
            context.append(clip(padded).last_hidden_state[0])
    assert bundle.conditions.names == ("a cat", "zoo")
    torch.testing.assert_close(bundle.conditions.context, torch.stack(context))
    assert_same_pass(bundle, state, "cc3m", torch.stack(context))
    other = bundle.with_prompts(["ca"], replace=True)
    assert other.conditions.context.shape == (2, 12, 12)
    assert torch.equal(other.conditions.context[1], bundle.conditions.context[2])
    with pytest.raises(
        ValueError, match=r"^prompts: got none for a transformer that takes prompts"
    ):
        convert_nat(options(tmp_path, state, **(given | {"prompts": None})))
    with pytest.raises(ValueError, match=r"^text_encoder: got none .* `captions`"):
        convert_nat(options(tmp_path, state, **(given | {"text_encoder": None})))
    with pytest.raises(ValueError, match=r"^prompts: got a file beside conditions"):
        convert_nat(options(tmp_path, state, **given, conditions=tmp_path / "other.npz"))


def test_half_precision_files_become_float32(tmp_path):
    state = {name: t.half() for name, t in random_state("autonat", **SMALL).items()}
    convert_nat(options(tmp_path, state))
    bundle = load_bundle(tmp_path / "out", "float32")
    assert_same_pass(bundle, state, "autonat", torch.tensor([0, 1, 5]))


def test_the_command_names_classes_and_says_what_works(tmp_path, capsys):
    torch.save(random_state("autonat", **SMALL), tmp_path / "nat.pth")
    (tmp_path / "names.txt").write_text("tench\ngoldfish\nwhite shark\ncock\nhen\n")
    words = ["nat", tmp_path / "nat.pth", "--tokenizer", "digits", "--num-heads", "2"]
    words += ["--class-names", tmp_path / "names.txt", "--out", tmp_path / "imagenet"]
    run_command("nat-convert", COMMANDS["nat-convert"], [str(word) for word in words])
    said = capsys.readouterr().out
    assert "3 blocks 8 wide with 2 heads" in said and "5 classes; images of 8 x 8" in said
    assert "no judge, trunk and real images" in said and "--real-folder" in said
    bundle = load_bundle(tmp_path / "imagenet")
    assert (bundle.name, bundle.conditions.names[2]) == ("imagenet", "white shark")
    assert bundle.training["layout"] == "autonat"
    with pytest.raises(ValueError, match=r"^bundle: 'imagenet' has no yardstick"):
        bundle.require("yardstick")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (b"one\ntwo\n", r"^class_names: got 2 names in 2 lines .* allowed are 5"),
        (b"a\nb\n\nc\nd\n", r"^class_names: got 4 names in 5 lines"),
        (b"crane\na\nb\nc\ncrane", r"^class_names: got crane twice in"),
        (b"caf\xe9", r"^class_names: .* cannot be read"),
    ],
)
def test_other_names_are_refused(tmp_path, names, message):
    (tmp_path / "names.txt").write_bytes(names)
    state = random_state("autonat", **SMALL)
    with pytest.raises(ValueError, match=message):
        convert_nat(options(tmp_path, state, class_names=tmp_path / "names.txt"))


def test_tensors_that_do_not_fit_are_named(tmp_path):
    state = random_state("autonat", **SMALL)
    wrong = state | {"extra.weight": torch.zeros(1), "mlm_layer.fc.bias": torch.zeros(9)}
    del wrong["norm.bias"], wrong["in_blocks.0.mlp.fc1.weight"]
    with pytest.raises(ValueError, match=r"^file: .*nnet_ema.pth' does not hold") as caught:
        convert_nat(options(tmp_path, wrong))
    said = str(caught.value)
    assert "of 3 blocks 8 wide" in said
    assert "lacks 2: norm.bias, in_blocks.0.mlp.fc1.weight" in said.replace(
        "in_blocks.0.mlp.fc1.weight, norm.bias", "norm.bias, in_blocks.0.mlp.fc1.weight"
    )
    assert "has beside them 1: extra.weight" in said
    assert "has in another shape 1: mlm_layer.fc.bias (9,) instead of (8,)" in said
    many = {name: t for name, t in state.items() if "mlp" not in name}
    with pytest.raises(ValueError, match=r"lacks 12: (\S+, ){4}\S+ and 7 more$"):
        convert_nat(options(tmp_path, many))
    state["norm.weight"][3] = math.nan
    with pytest.raises(ValueError, match=r"^file: .*not finite in norm.weight"):
        convert_nat(options(tmp_path, state))
    assert not (tmp_path / "out").exists()


def test_another_models_file_is_refused(tmp_path, vqgan):
    path, _ = vqgan
    with pytest.raises(ValueError, match=r"^file: .* holds no U-ViT .*word_embeddings"):
        convert_nat(ConvertNAT(path, str(path), tmp_path / "out"))
    state = random_state("autonat", **SMALL)
    given = options(tmp_path, state, tokenizer=str(tmp_path / "nnet_ema.pth"))
    with pytest.raises(ValueError, match=r"^tokenizer: .* holds no VQGAN"):
        convert_nat(given)
    with pytest.raises(ValueError, match=r"^tokenizer: got .*, allowed is a bundle .*or the file"):
        convert_nat(options(tmp_path, state, tokenizer=str(path.parent)))
    with pytest.raises(ValueError, match=r"^tokenizer: .*absent' cannot be read"):
        convert_nat(options(tmp_path, state, tokenizer="absent"))
    with pytest.raises(ValueError, match=r"^file: .* has 15 positions of tokens, .*'muse'"):
        convert_nat(options(tmp_path, state, layout="muse"))
    with pytest.raises(ValueError, match=r"^file: has 46 words, .* 64 codes .*no classes"):
        convert_nat(options(tmp_path, random_state("muse", side=4, codes=40, classes=4)))
    with pytest.raises(ValueError, match=r"^file: .* has 17 positions of tokens, .*'autonat'"):
        convert_nat(options(tmp_path, random_state("muse", **SMALL), layout="autonat"))
    # A tokenizer of other codes: its own words are named with their shapes.
    with pytest.raises(ValueError, match=r"^file: .*word_embeddings.weight \(64, 8\) instead of"):
        convert_nat(options(tmp_path, random_state("autonat", side=4, codes=63, classes=5)))
    assert not (tmp_path / "out").exists()


def test_the_number_of_heads_is_asked_for_where_it_is_not_published(tmp_path):
    state = random_state("autonat", **SMALL)
    with pytest.raises(
        ValueError, match=r"^num_heads: got none for 3 blocks 8 wide .*25 blocks 768"
    ):
        convert_nat(options(tmp_path, state, num_heads=None))
    with pytest.raises(ValueError, match=r"^num_heads: got 3, must divide"):
        convert_nat(options(tmp_path, state, num_heads=3))
    published = random_state("autonat", size=512, half=6, side=2, codes=64, classes=2)
    small = {name: torch.zeros(1).expand(t.shape) for name, t in published.items()}
    with pytest.raises(
        ValueError, match=r"^transformer: has \(num_tokens, codebook_size\) = \(4, 64"
    ):
        convert_nat(options(tmp_path, small, num_heads=None))


def test_nothing_is_lost_or_half_written(tmp_path):
    state = random_state("autonat", **SMALL)
    convert_nat(options(tmp_path, state))
    before = load_bundle(tmp_path / "out").fingerprint
    given = options(tmp_path, state)
    given.file.write_bytes(given.file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"^file: .* half a download"):
        convert_nat(given)
    assert load_bundle(tmp_path / "out").fingerprint == before
    given.file.write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match=r"^file: "):
        convert_nat(given)
    with pytest.raises(ValueError, match=r"^out: .*apart from file"):
        convert_nat(ConvertNAT(given.file, "digits", tmp_path))
    with pytest.raises(ValueError, match=r"^out: .*apart from tokenizer"):
        convert_nat(ConvertNAT(given.file, str(tmp_path / "out"), tmp_path / "out"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "transformer").mkdir()
    with pytest.raises(ValueError, match=r"^folder: .*is no bundle, but has a 'transformer'"):
        convert_nat(ConvertNAT(given.file, "digits", tmp_path / "mine"))
