"""What a bundle's folder holds, and the checks that its parts are whole and fit together."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nat_env.bundles.statistics import GaussianStatistics
from nat_env.models.classifier import ClassifierConfig
from nat_env.models.uvit import UViTConfig
from nat_env.storage.files import sha256

FORMAT = 1
DESCRIPTION = "bundle.json"
PARTS = {
    "transformer.safetensors",
    "judge.safetensors",
    "features.safetensors",
    "statistics.safetensors",
    "real.safetensors",
    "tokenizer/tokenizer.json",
}


def checked_description(folder: Path) -> dict[str, Any]:
    """What `bundle.json` says, after comparing every file with its hash.

    Raises:
        ValueError: it is damaged or of another format, or a file is missing or differs.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        hashes, version = dict(description["files"]), description["format"]
        _ = [description[key] for key in ("name", "class_names", "training", "quality")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"bundle: {folder / DESCRIPTION} is damaged ({error!r})") from error
    if version != FORMAT:
        raise ValueError(f"bundle: format {version} in {str(folder)!r}, allowed is {FORMAT}")
    unlisted = PARTS - hashes.keys()
    if unlisted:
        raise ValueError(f"bundle: {folder / DESCRIPTION} lacks {', '.join(sorted(unlisted))}")
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"bundle: {path} is missing")
        if sha256(path) != expected:
            raise ValueError(f"bundle: {path} is truncated or not this bundle's (hash differs)")
    return description


def fingerprint(description: dict[str, Any]) -> str:
    """One hash for all files."""
    return hashlib.sha256(json.dumps(description["files"], sort_keys=True).encode()).hexdigest()


def check_parts(
    transformer: UViTConfig,
    judge: ClassifierConfig,
    features: ClassifierConfig,
    statistics: GaussianStatistics,
    num_classes: int,
    real: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Check that the parts of a bundle fit together.

    Raises:
        ValueError: naming the part that does not.
    """
    images, labels, ids = real
    if images.ndim != 4:
        raise ValueError(f"real_images: got {tuple(images.shape)}, allowed is [n, C, H, W]")
    fits = {
        "transformer": transformer.num_classes == num_classes,
        "judge": judge.num_classes == num_classes and judge.channels == images.shape[1],
        "features": (features.channels, features.num_classes)
        == (judge.channels, judge.num_classes),
        "statistics": statistics.mean.shape == (judge.widths[-1],) and statistics.count is not None,
        "real_images": images.dtype == torch.uint8 and len(images) > 0,
        "real_labels": labels.shape == images.shape[:1] and _within(labels, num_classes),
        "real_ids": ids.shape == (len(images), transformer.num_tokens)
        and _within(ids, transformer.codebook_size),
    }
    for part, good in fits.items():
        if not good:
            raise ValueError(f"{part}: does not fit the bundle's other parts")


def _within(values: Tensor, limit: int) -> bool:
    return bool(((values >= 0) & (values < limit)).all())
