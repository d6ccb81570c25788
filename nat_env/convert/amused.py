"""A bundle of aMUSEd as diffusers saves it: `AmusedPipeline`'s folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nat_env.bundles.writer import check_replaceable, save_bundle
from nat_env.commands.extras import missing_extra
from nat_env.convert.arguments import ConvertAmused
from nat_env.frozen.conditions import Conditions
from nat_env.models.amused import Amused, AmusedConfig
from nat_env.models.diffusers_folder import WEIGHTS, check_whole, load_model, read_config
from nat_env.models.vq import VQTokenizer
from nat_env.storage.files import check_apart, check_writable_folder
from nat_env.text.clip import CLIPTextEncoder
from nat_env.text.embeddings import embedded
from nat_env.text.prompts import fitting_prompts, read_prompts

EXAMPLES = (
    "a photo of an astronaut riding a horse",
    "a bowl of fruit on a wooden table, oil painting",
    "a red double-decker bus in the rain",
    "a portrait of an old fisherman, black and white",
    "a small cottage beside a lake at sunset",
    "a plate of sushi seen from above",
    "a golden retriever puppy in tall grass",
    "a city skyline at night, watercolour",
    "a vase of sunflowers before a blue wall",
    "a snow-covered mountain under a clear sky",
)
"""Prompts of the table where none are given."""

INDEX = "model_index.json"
_FILES = (
    INDEX, "scheduler/*.json", "tokenizer/*", "*/config.json", f"transformer/{WEIGHTS}",
    f"vqvae/{WEIGHTS}", "text_encoder/model.safetensors",
)  # fmt: skip


def convert_amused(
    source: str, out: Path, prompts: Path | None = None, resolution: int | None = None
) -> Conditions:
    """Write a bundle of aMUSEd.

    The row of no prompt is the empty text's, as in diffusers' `AmusedPipeline`.

    Args:
        source: folder of an `AmusedPipeline`, or an id of the Hugging Face hub.
        out: of the bundle, a folder apart from it.
        prompts: a file that `read_prompts` takes, of which those that are too long are left out; by
            default `EXAMPLES`.
        resolution: pixels of a side; by default what the model was made for.

    Returns:
        The table of prompts.

    Raises:
        ValueError: no such folder or hub id, a part that is missing, damaged or of another kind,
            prompts that are all too long, or a folder that cannot be written; nothing is written.
        ImportError: transformers is not installed.
    """
    names: Sequence[str] = EXAMPLES if prompts is None else read_prompts(prompts)
    check_replaceable(out)
    check_writable_folder(out)
    _require_transformers()
    folder = _downloaded(source)
    check_apart(out=out, folder=folder)
    transformer_config, side = _checked(folder, resolution)

    # First what may refuse a prompt.
    encoder: Any = CLIPTextEncoder.from_folder(
        folder / "text_encoder", "second-last", tokenizer_path=folder / "tokenizer"
    )
    if prompts is not None:
        names = fitting_prompts(names, encoder)
    context, pooled = encoder.encode_nothing()
    table = embedded(encoder, names, {"context": context, "pooled": pooled})
    conditions = Conditions(tuple(names), **table)
    tokenizer = VQTokenizer.of_folder(folder / "vqvae", (side, side), (0.0, 1.0))
    _check_codes(folder, transformer_config, tokenizer)
    from diffusers.models.unets.uvit_2d import UVit2DModel

    network = load_model(UVit2DModel, folder / "transformer")
    transformer = Amused(network, AmusedConfig(tokenizer.grid, tokenizer.image_size), conditions)
    save_bundle(
        out,
        name=Path(source).name,
        conditions=conditions,
        transformer=transformer,
        tokenizer=tokenizer,
        text_encoder=encoder,
        training={"converted_from": Path(source).name},
    )
    return conditions


def _downloaded(source: str) -> Path:
    """The folder, of the hub's where it is none.

    Raises:
        ValueError: neither a folder nor an id, or it cannot be downloaded.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists() or source.startswith(("/", ".", "~")) or source.count("/") != 1:
        raise ValueError(
            f"folder: got {source!r}, allowed is the folder of an AmusedPipeline, or an id of the "
            "Hugging Face hub such as amused/amused-256"
        )
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(source, allow_patterns=list(_FILES)))
    except (OSError, ValueError, huggingface_hub.errors.HTTPError) as error:
        raise ValueError(
            f"folder: {source!r} is no folder here, and cannot be had from the Hugging Face hub "
            f"({error}); on a machine that reaches it, `hf download {source} --local-dir FOLDER` "
            "fetches a folder to give in its place"
        ) from error


def _checked(folder: Path, resolution: int | None) -> tuple[Mapping[str, Any], int]:
    """The transformer's configuration and pixels of a side, after a look at every file.

    Raises:
        ValueError: one is missing, cut off, or of another pipeline.
    """
    index = folder / INDEX
    try:
        pipeline = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except FileNotFoundError:
        raise ValueError(
            f"folder: {index} is missing; allowed is a folder that AmusedPipeline.save_pretrained "
            "wrote, or an id of the hub"
        ) from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"folder: {index} is damaged ({error!r}); download it again") from error
    if pipeline != "AmusedPipeline":
        raise ValueError(f"folder: {index} is of a {pipeline}, allowed is an AmusedPipeline")
    transformer = read_config(folder / "transformer", "UVit2DModel")
    vqvae = read_config(folder / "vqvae", "VQModel")
    for needed in ("text_encoder/config.json", "text_encoder/model.safetensors"):
        if not (folder / needed).is_file():
            raise ValueError(f"folder: {folder / needed} is missing; download it again")
    check_whole(folder / "text_encoder/model.safetensors")
    words = folder / "tokenizer"
    if not ((words / "tokenizer.json").is_file() or (words / "vocab.json").is_file()):
        raise ValueError(f"folder: {words} lacks tokenizer.json or vocab.json; download it again")
    factor = 2 ** (len(vqvae["block_out_channels"]) - 1)
    side = transformer["sample_size"] * factor if resolution is None else resolution
    multiple = 2 * factor if transformer["downsample"] else factor
    if side < 1 or side % multiple:
        raise ValueError(f"resolution: got {side}, allowed are multiples of {multiple}")
    return transformer, side


def _check_codes(folder: Path, config: Mapping[str, Any], tokenizer: VQTokenizer) -> None:
    """Check that transformer, tokenizer and scheduler mean the same by an id.

    Raises:
        ValueError: they have other numbers of codes, or another mask.
    """
    if config["codebook_size"] != tokenizer.codebook_size:
        raise ValueError(
            f"folder: {folder / 'transformer'} has {config['codebook_size']} codes, "
            f"{folder / 'vqvae'} {tokenizer.codebook_size}; allowed are parts of one model"
        )
    path = folder / "scheduler" / "scheduler_config.json"
    if path.is_file():
        mask = json.loads(path.read_text(encoding="utf-8")).get("mask_token_id")
        if mask != config["vocab_size"] - 1:
            raise ValueError(
                f"folder: {path} has the mask {mask}, allowed is the transformer's last id, "
                f"{config['vocab_size'] - 1}"
            )


def _require_transformers() -> None:
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise missing_extra("nat-convert amused needs transformers", "clip") from error


def command(arguments: ConvertAmused) -> None:
    """Convert, and say what came out."""
    out = arguments.out
    conditions = convert_amused(arguments.source, out, arguments.prompts, arguments.resolution)
    shown = f"nat-sample --bundle {out} --policy amused --num-steps 12 --out grid.png"
    print(f"{out}: {len(conditions)} prompts\n{shown} shows what it draws")
