"""nat-convert amused: a folder of diffusers becomes a bundle, or nothing is written."""

import json
import shutil
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from diffusers import AmusedPipeline

import nat_env  # registers the environment
from nat_env.bundles.loading import load_bundle
from nat_env.commands.command_line import run_command
from nat_env.commands.entry import COMMANDS
from nat_env.convert.amused import EXAMPLES, convert_amused
from nat_env.schedules import amused_schedule


@pytest.fixture
def folder(amused_folder, tmp_path):
    """A copy to damage."""
    return shutil.copytree(amused_folder, tmp_path / "amused")


def embedded_by_the_pipeline(folder, prompt):
    """What `AmusedPipeline` hands to its transformer: hidden states and pooled embedding."""
    pipe = AmusedPipeline.from_pretrained(folder)
    ids = pipe.tokenizer(
        prompt, return_tensors="pt", padding="max_length", max_length=12
    ).input_ids  # fmt: skip
    with torch.no_grad():
        output = pipe.text_encoder(ids, output_hidden_states=True)
    return output.hidden_states[-2][0], output.text_embeds[0]


def test_the_table_holds_what_the_pipelines_text_encoder_says(amused_bundle_folder, amused_folder):
    bundle = load_bundle(amused_bundle_folder, "float32")
    assert bundle.conditions.names == ("a cat", "a zebra")
    bundle = bundle.with_prompts(["a dog"])  # by the text encoder that is in the bundle
    for row, prompt in enumerate(("a cat", "a zebra", "a dog", "")):  # the last: no prompt
        context, pooled = embedded_by_the_pipeline(amused_folder, prompt)
        torch.testing.assert_close(bundle.conditions.context[row], context)
        torch.testing.assert_close(bundle.conditions.pooled[row], pooled)
    assert context.std() > 0.1
    sizes = (bundle.nat.num_tokens, bundle.nat.codebook_size, bundle.nat.mask_id)
    assert sizes == (16, 16, 19)
    assert bundle.tokenizer.image_size == bundle.nat.transformer.config.original_size == (8, 8)
    assert not (bundle.yardstick or bundle.trunk or bundle.reals)


def test_the_command_with_its_defaults_and_another_resolution(amused_folder, tmp_path, capsys):
    shorter = shutil.copytree(amused_folder, tmp_path / "amused")
    config = json.loads((shorter / "text_encoder" / "config.json").read_text())
    assert config["max_position_embeddings"] == 12  # too few for the examples: see below
    prompts = tmp_path / "p.txt"
    too_long = "a b c d e f g h i j k"  # 11 letters, and what begins and ends them
    prompts.write_text(f"a cat\n\na   dog\n{too_long}\na cat\n")
    words = [str(shorter), "--out", str(tmp_path / "out"), "--prompts", str(prompts)]
    with (
        pytest.warns(UserWarning, match="1 empty captions"),
        pytest.warns(UserWarning, match="1 of 3 take more than the 12 tokens"),
    ):
        run_command(
            "nat-convert", COMMANDS["nat-convert"], ["amused", *words, "--resolution", "12"]
        )
    out = capsys.readouterr().out
    assert "2 prompts" in out and "--policy amused" in out
    bundle = load_bundle(tmp_path / "out", "float32")
    assert bundle.conditions.names == ("a cat", "a dog")
    assert (bundle.nat.feature_grid, bundle.tokenizer.image_size) == ((6, 6), (12, 12))
    assert len(EXAMPLES) == len(set(EXAMPLES)) == 10


def test_gym_make_takes_the_bundle_and_its_zero_is_amuseds_schedule(amused_bundle_folder):
    env = gym.make(
        "NATDecode-v0", bundle=str(amused_bundle_folder), num_steps=3, residual="amused",
        dtype="float32", reward_fn=lambda images, conditions: images.mean(dim=(1, 2, 3)),
    )  # fmt: skip
    observation, _ = env.reset(seed=6, options={"condition": 1})
    assert observation["features"].shape == (16 * 8,)
    for _ in range(3):
        observation, reward, terminated, _, info = env.step(np.zeros(4, np.float32))
    assert terminated and info["action"][3] == pytest.approx(9)
    bundle = load_bundle(amused_bundle_folder, "float32")
    policy = nat_env.ScheduledPolicy(amused_schedule(3, 16))
    (image,) = nat_env.generate(bundle, policy, [1], 3, seed=6)
    assert reward == pytest.approx(float(image.mean()), abs=1e-6)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("model_index.json", r"model_index.json is missing; allowed is a folder that Amused"),
        ("transformer", r"transformer/config.json is missing"),
        ("transformer/diffusion_pytorch_model.safetensors", r"model.safetensors is missing"),
        ("vqvae", r"vqvae/config.json is missing"),
        ("text_encoder", r"text_encoder/config.json is missing"),
        ("text_encoder/model.safetensors", r"text_encoder/model.safetensors is missing"),
        ("tokenizer", r"tokenizer lacks tokenizer.json or vocab.json"),
    ],
)
def test_a_part_that_is_missing_is_named(folder, tmp_path, missing, message):
    path = folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match=rf"^folder: .*{message}"):
        convert_amused(str(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "weights",
    [
        "transformer/diffusion_pytorch_model.safetensors",
        "vqvae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ],
)
def test_half_a_download_is_noticed_before_any_work(folder, tmp_path, monkeypatch, weights):
    monkeypatch.setattr("nat_env.convert.amused.CLIPTextEncoder", None)
    whole = (folder / weights).read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123456\n"
    for part in (whole[: len(whole) // 2], pointer, b""):
        (folder / weights).write_bytes(part)
        with pytest.raises(ValueError, match=rf"^folder: .*{weights} is no whole .*download"):
            convert_amused(str(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def changed(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_is_not_amused_or_does_not_belong_together_is_refused(folder, tmp_path):
    prompts, out = tmp_path / "p.txt", tmp_path / "out"
    prompts.write_text("a cat\n")

    def refused(message, source=folder, **options):
        with pytest.raises(ValueError, match=message):
            convert_amused(str(source), out, **({"prompts": prompts} | options))
        assert not out.exists()

    refused(r"^resolution: got 9, allowed are multiples of 2", resolution=9)
    refused(r"^prompts: got 'a photo of an astronaut.* tokens, allowed are up to 12", prompts=None)
    refused(r"^prompts: .*nowhere.txt' is no file", prompts=tmp_path / "nowhere.txt")
    changed(folder / "scheduler" / "scheduler_config.json", mask_token_id=17)
    refused(r"^folder: .*scheduler_config.json has the mask 17, allowed is .* 19")
    changed(folder / "scheduler" / "scheduler_config.json", mask_token_id=19)
    changed(folder / "transformer" / "config.json", num_hidden_layers=2)
    refused(r"is not of the UVit2DModel .*: missing keys transformer_layers.1.")
    changed(folder / "transformer" / "config.json", num_hidden_layers=1)
    changed(folder / "vqvae" / "config.json", num_vq_embeddings=15)
    refused(r"transformer has 16 codes, .*vqvae 15")
    changed(folder / "vqvae" / "config.json", _class_name="AutoencoderKL")
    refused(r"vqvae/config.json is of a AutoencoderKL, allowed is a VQModel")
    changed(folder / "model_index.json", _class_name="StableDiffusionPipeline")
    refused(r"model_index.json is of a StableDiffusionPipeline, allowed is an AmusedPipeline")
    (folder / "model_index.json").write_text("{")
    refused(r"^folder: .*model_index.json is damaged .*download it again")
    refused(r"^folder: got '.*p.txt', allowed is the folder of an AmusedPipeline", source=prompts)


def test_out_may_not_be_in_the_folder_nor_hold_something_else(folder, tmp_path):
    with pytest.raises(ValueError, match=r"^out: .*allowed is a folder apart from folder"):
        convert_amused(str(folder), folder / "bundle")
    (tmp_path / "mine" / "tokenizer").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"^folder: .*is no bundle, but has a 'tokenizer'"):
        convert_amused(str(folder), tmp_path / "mine")


def test_a_hub_that_cannot_be_reached_says_what_to_do(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no connection")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ValueError, match=r"^folder: 'amused/amused-256' .*\(no connection\).*hf d"):
        convert_amused("amused/amused-256", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_hub_id_is_downloaded_without_pickled_files(folder, tmp_path, monkeypatch):
    from fnmatch import fnmatch

    asked = {}

    def download(name, allow_patterns):
        asked[name] = allow_patterns
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    (tmp_path / "p.txt").write_text("a cat\n")
    convert_amused("someone/amused", tmp_path / "out", tmp_path / "p.txt")
    assert load_bundle(tmp_path / "out", "float32").name == "amused"
    (patterns,) = asked.values()
    needed = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    assert all(any(fnmatch(name, pattern) for pattern in patterns) for name in needed)
    left_out = ("text_encoder/pytorch_model.bin", "vqvae/diffusion_pytorch_model.fp16.safetensors")
    assert not any(fnmatch(name, pattern) for name in left_out for pattern in patterns)


def test_without_transformers_the_extra_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"nat-convert amused needs transformers: .*\[clip\]"):
        convert_amused(str(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()
