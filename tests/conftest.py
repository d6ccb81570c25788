"""One torch thread: two of them beside another busy process wait for each other."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def launch() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`accelerate launch` of a script, or of `-m` and a module, in two processes on the CPU."""
    root = Path(__file__).parents[1]

    def launched(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
        command += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
        command += ["--dynamo_backend", "no", "--main_process_port", "0", *map(str, words)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=root)

    return launched


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
    monkeypatch.setitem(KINDS["text_encoder"], "toy-sentences", "toy_text:ToySentences")
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


@pytest.fixture
def matched_folder(toy_text: Any, text_folder: Path, tmp_path: Path) -> Path:
    """The same with matchers for judge, trunk and aligner, and 64 real images of noise."""
    from nat_env.bundles.loading import load_bundle
    from nat_env.bundles.reals import TensorReals
    from nat_env.bundles.statistics import GaussianStatistics
    from nat_env.bundles.writer import save_bundle
    from nat_env.bundles.yardstick import Yardstick
    from nat_env.models.pixels import to_float

    bundle = load_bundle(text_folder)
    towers = [toy_text.matcher(seed).with_conditions(bundle.conditions) for seed in range(3)]
    real = torch.randint(256, (64, 1, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    statistics = GaussianStatistics.from_embeddings(towers[0].embeddings(to_float(real)).numpy())
    save_bundle(
        tmp_path / "matched",
        name="matched",
        conditions=bundle.conditions,
        transformer=bundle.nat.transformer,
        tokenizer=bundle.tokenizer,
        text_encoder=toy_text.ToyTextEncoder(),
        yardstick=Yardstick("matched-judge", towers[0], statistics),
        trunk=towers[1],
        aligner=towers[2],
        reals=TensorReals(real, torch.arange(64) % 2),
    )
    return tmp_path / "matched"


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A tiny CLIP with random weights and letters for tokens, saved as transformers saves one."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = tmp_path_factory.mktemp("clip")
    characters = "abcdefghijklmnopqrstuvwxyz0123456789,"
    tokens = [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "initializer_factor": 8.0}
    text = {
        "vocab_size": len(tokens),
        "max_position_embeddings": 24,
        "eos_token_id": len(tokens) - 1,
    }
    text |= {"bos_token_id": len(tokens) - 2, "pad_token_id": len(tokens) - 1}
    vision = {"image_size": 24, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(text_config=sizes | text, vision_config=sizes | vision, projection_dim=8)
    ).save_pretrained(folder)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_amused() -> Callable[..., Path]:
    """Write a tiny aMUSEd with random weights as diffusers does: 4 x 4 tokens, 8 x 8 pixels."""

    def make(folder: Path, downsample: bool = False) -> Path:
        from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel, VQModel
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

        letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
        words = [
            *letters,
            *(f"{a}</w>" for a in letters),
            "ca",
            "cat</w>",
            "<|startoftext|>",
            "<|endoftext|>",
        ]
        spelling = folder.parent / f"{folder.name}_words"
        spelling.mkdir(parents=True)
        (spelling / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
        (spelling / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
        tokenizer = CLIPTokenizer.from_pretrained(spelling, model_max_length=12)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            text_encoder = CLIPTextModelWithProjection(
                CLIPTextConfig(
                    vocab_size=len(words), hidden_size=12, intermediate_size=16, projection_dim=6,
                    num_hidden_layers=3, num_attention_heads=2, max_position_embeddings=12,
                    bos_token_id=len(words) - 2, eos_token_id=len(words) - 1,
                    pad_token_id=len(words) - 1,
                )
            )  # fmt: skip
            transformer = UVit2DModel(
                hidden_size=16, cond_embed_dim=6, micro_cond_encode_dim=4, micro_cond_embed_dim=20,
                encoder_hidden_size=12, vocab_size=20, codebook_size=16, in_channels=8,
                block_out_channels=8, num_res_blocks=1, downsample=downsample, upsample=downsample,
                block_num_heads=2, num_hidden_layers=1, num_attention_heads=2,
                intermediate_size=16, sample_size=4,
            )  # fmt: skip
            transformer.mlm_layer.conv2.weight.data *= 4  # logits that differ by more than rounding
            vqvae = VQModel(
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                block_out_channels=(4, 8), latent_channels=4, num_vq_embeddings=16,
                norm_num_groups=4, mid_block_add_attention=downsample, lookup_from_codebook=True,
            )  # fmt: skip
            vqvae.quantize.embedding.weight.data.normal_()
        AmusedPipeline(
            vqvae, tokenizer, text_encoder, transformer, AmusedScheduler(mask_token_id=19)
        ).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def amused_folder(make_amused: Callable[..., Path], tmp_path_factory: Any) -> Path:
    """A tiny aMUSEd as diffusers saves it."""
    return make_amused(tmp_path_factory.mktemp("diffusers") / "amused")


@pytest.fixture(scope="session")
def amused_bundle_folder(amused_folder: Path, tmp_path_factory: Any) -> Path:
    """The bundle of it, with the prompts `a cat` and `a zebra`."""
    from nat_env.convert.amused import convert_amused

    folder = tmp_path_factory.mktemp("bundles")
    (folder / "prompts.txt").write_text("a cat\na zebra\n")
    convert_amused(str(amused_folder), folder / "amused", folder / "prompts.txt")
    return folder / "amused"


@pytest.fixture(scope="session")
def digits() -> Any:
    """The shipped bundle, in float32."""
    from nat_env.bundles.loading import load_bundle

    return load_bundle("digits", dtype="float32")


@pytest.fixture
def make_run(tmp_path: Path, digits: Any) -> Callable[..., Path]:
    """Gives run folders with a policy that adapts: its head is random, not zero."""
    from agents.learners.config import TrainConfig
    from agents.learners.network import AdaNATNetwork
    from agents.learners.trained import LearnedPolicy
    from agents.runs.checkpoint import save_policy, save_run_config
    from nat_env.actions import ActionMap

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
