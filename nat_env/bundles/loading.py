"""Loading a bundle by its name or folder, once for all that ask."""

import os
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.format import (
    CONDITIONS,
    DESCRIPTION,
    PARTS,
    REALS,
    STATISTICS,
    TEXT_ENCODER,
    check_part,
    read_description,
)
from nat_env.bundles.reals import TensorReals
from nat_env.bundles.statistics import GaussianStatistics
from nat_env.bundles.yardstick import Yardstick
from nat_env.frozen.conditions import Conditions
from nat_env.frozen.nat import FrozenNAT
from nat_env.models.kinds import load_part
from nat_env.text.encoder import StoredTextEncoder

DECODER_DTYPES = ("float32", "bfloat16")


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles in `nat_env/assets`."""
    assets = Path(str(files("nat_env"))) / "assets"
    return tuple(sorted(p.parent.name for p in assets.glob(f"*/{DESCRIPTION}")))


def bundle_folder(name_or_path: str | Path) -> Path:
    """The folder of a shipped bundle, or of one's own: `./digits` where it has such a name.

    Raises:
        ValueError: neither a shipped name nor a folder with a `bundle.json`.
    """
    name = str(name_or_path)
    own = Path(os.path.expanduser(name_or_path))
    folder = Path(str(files("nat_env"))) / "assets" / name if name in shipped_bundles() else own
    if (folder / DESCRIPTION).is_file():
        return folder.resolve()
    raise ValueError(
        f"bundle: got {name!r}, allowed are {', '.join(shipped_bundles())} "
        f"or a folder with a {DESCRIPTION}"
    )


def bundle_spec(name_or_path: str | Path) -> str:
    """What names a bundle in any working directory: a shipped bundle's name, or the whole path.

    Raises:
        ValueError: neither a shipped name nor a folder with a `bundle.json`.

    Example:
        >>> bundle_spec("digits")
        'digits'
    """
    folder = bundle_folder(name_or_path)
    return str(name_or_path if str(name_or_path) in shipped_bundles() else folder)


def own_spec(folder: Path) -> str:
    """What names a folder and no shipped bundle.

    Example:
        >>> own_spec(Path("runs/mine")), own_spec(Path("digits"))
        ('runs/mine', './digits')
    """
    return f"./{folder}" if str(folder) in shipped_bundles() else str(folder)


def load_bundle(
    name_or_path: str | Path,
    dtype: str = "auto",
    device: str = "cpu",
    decoder_dtype: str = "float32",
    compiled: bool = False,
    rows_per_pass: int | None = None,
) -> Bundle:
    """Load a bundle, once for all calls with the same arguments: later ones share the models.

    Args:
        name_or_path: a shipped bundle's name or a folder.
        dtype: of the transformer: `float32`, `bfloat16`, `float16` (that of the authors' code), or
            `auto` (bfloat16 where the hardware multiplies it fast, else float32).
        device: a torch device.
        decoder_dtype: of the tokenizer's decoder: `float32`, or `bfloat16`, which is faster where
            the hardware multiplies it fast; images are float32 all the same, and a little others.
        compiled: run the transformer through `torch.compile`: slower to begin with.
        rows_per_pass: see `FrozenNAT`; None: as the device has it.

    The latest 8 are kept: `load_bundle.cache_clear()` forgets them all, which frees their memory
    once nothing else holds them.

    Raises:
        ValueError: an unknown bundle, kind of model, dtype or device, a file that is missing or
            damaged, or a tokenizer that has no choice of a dtype.
    """
    device = check_device(device)
    folder = bundle_folder(name_or_path)
    if decoder_dtype not in DECODER_DTYPES:
        raise ValueError(f"decoder_dtype: got {decoder_dtype!r}, allowed are {DECODER_DTYPES}")
    written = (folder / DESCRIPTION).read_bytes()  # a bundle written anew is another one
    numbers = resolve_dtype(dtype, device), getattr(torch, decoder_dtype)
    return _load(folder, written, *numbers, device, compiled, rows_per_pass or 0)


def check_device(device: str) -> str:
    """The whole name of a torch device that is there: `cuda:0` where `cuda` was given.

    Raises:
        ValueError: torch cannot use it.
    """
    try:
        found = torch.empty(0, device=device).device
        return "cpu" if found.type == "cpu" else str(found)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: got {device!r}, which torch cannot use ({error})") from error


def resolve_dtype(dtype: str, device: str = "cpu") -> torch.dtype:
    """`float32`, `bfloat16`, `float16` or `auto` as a torch dtype.

    Raises:
        ValueError: another name, or float16 where torch cannot multiply it.
    """
    if dtype == "auto":
        if torch.device(device).type == "cpu":
            able = getattr(torch.cpu, "get_capabilities", dict)()
            fast = able.get("avx512_bf16", False) or able.get("amx_bf16", False)
        else:
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if dtype not in ("float32", "bfloat16", "float16"):
        raise ValueError(
            f"dtype: got {dtype!r}, allowed are 'auto', 'float32', 'bfloat16', 'float16'"
        )
    if dtype == "float16":
        numbers = torch.zeros(1, 1, dtype=torch.float16, device=device)
        try:
            torch.nn.functional.linear(numbers, numbers)
        except RuntimeError as error:
            raise ValueError(
                f"dtype: got 'float16', which torch cannot multiply on {device!r} ({error}); take "
                "'float32'"
            ) from None
    return getattr(torch, dtype)


@lru_cache(maxsize=8)
def _load(
    folder: Path,
    written: bytes,
    dtype: torch.dtype,
    decoder_dtype: torch.dtype,
    device: str,
    compiled: bool,
    rows_per_pass: int,
) -> Bundle:
    description = read_description(folder)
    try:
        conditions = Conditions.load(description["conditions"], folder / CONDITIONS)
        models: dict[str, Any] = {
            part: load_part(folder, part, description[part], conditions)
            for part in PARTS
            if part in description and part != TEXT_ENCODER
        }
        text_encoder = None
        if TEXT_ENCODER in description:
            text_encoder = StoredTextEncoder(
                description[TEXT_ENCODER]["fingerprint"],
                partial(_read_text_encoder, folder, description, conditions),
                torch.device(device),
            )
        yardstick = None
        if "judge" in models:
            tables = load_file(folder / STATISTICS)
            statistics = GaussianStatistics(
                mean=tables["mean"].numpy(),
                covariance=tables["covariance"].numpy(),
                count=int(tables["count"]),
            )
            judge = models["judge"].to(device)
            yardstick = Yardstick(description["judge"]["name"], judge, statistics)
        return Bundle(
            name=description["name"],
            conditions=conditions,
            nat=FrozenNAT(
                models["transformer"],
                conditions.null,
                torch.device(device),
                dtype,
                rows_per_pass,
                compiled,
            ),
            tokenizer=_decoding_in(decoder_dtype, models["tokenizer"].to(device)),
            yardstick=yardstick,
            trunk=models["trunk"].to(device) if "trunk" in models else None,
            aligner=models["aligner"].to(device) if "aligner" in models else None,
            reals=_load_reals(folder / REALS) if REALS in description["files"] else None,
            text_encoder=text_encoder,
            fingerprint=description["fingerprint"],
            training=description["training"],
            quality=description["quality"],
        )
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise ValueError(f"bundle: {str(folder)!r} does not fit together ({error})") from error


load_bundle.cache_clear = _load.cache_clear  # type: ignore[attr-defined]


def _decoding_in(dtype: torch.dtype, tokenizer: Any) -> Any:
    if dtype != torch.float32:
        if not hasattr(tokenizer, "decoder_dtype"):
            raise ValueError(
                f"decoder_dtype: got {dtype}, allowed with {type(tokenizer).__name__}, which has "
                "no attribute decoder_dtype, is float32"
            )
        tokenizer.decoder_dtype = dtype
    return tokenizer


def _read_text_encoder(folder: Path, description: dict[str, Any], conditions: Conditions) -> Any:
    check_part(folder, TEXT_ENCODER, description["files"])
    return load_part(folder, TEXT_ENCODER, description[TEXT_ENCODER], conditions)


def _load_reals(path: Path) -> TensorReals:
    real = load_file(path)
    ids = real["ids"].long() if "ids" in real else None
    return TensorReals(real["images"], real["conditions"], ids)
