"""Writing a bundle."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nat_env.bundles.format import DESCRIPTION, FORMAT, check_parts
from nat_env.bundles.statistics import GaussianStatistics
from nat_env.models.classifier import Classifier
from nat_env.models.uvit import UViT
from nat_env.models.vq import VQTokenizer
from nat_env.storage.files import require_writable_folder, sha256, write_json, written_aside


def save_bundle(
    folder: Path,
    *,
    name: str,
    class_names: tuple[str, ...],
    tokenizer: VQTokenizer,
    transformer: UViT,
    judge: Classifier,
    features: Classifier,
    statistics: GaussianStatistics,
    real_images: Tensor,
    real_labels: Tensor,
    real_ids: Tensor,
    training: Mapping[str, Any],
    quality: Mapping[str, Any],
) -> None:
    """Write a bundle; `bundle.json` comes last, so that a broken-off write is no bundle.

    Raises:
        ValueError: `folder` cannot be written, or the parts do not fit together.
    """
    grid = tokenizer.config.grid
    expected = (grid[0] * grid[1], tokenizer.config.codebook_size, len(class_names))
    config = transformer.config
    if (config.num_tokens, config.codebook_size, config.num_classes) != expected:
        raise ValueError(
            f"transformer: has {config}, the tokenizer and class names ask for "
            f"(num_tokens, codebook_size, num_classes) = {expected}"
        )
    check_parts(
        config,
        judge.config,
        features.config,
        statistics,
        len(class_names),
        (real_images, real_labels, real_ids),
    )
    if real_images.shape[2:] != tokenizer.config.image_size:
        raise ValueError(
            f"real_images: got {tuple(real_images.shape)}, the tokenizer's are "
            f"{tokenizer.config.image_size}"
        )
    require_writable_folder(folder)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    tokenizer.save(folder / "tokenizer")
    tensors: dict[str, dict[str, Tensor]] = {
        "transformer": _state(transformer),
        "judge": _state(judge),
        "features": _state(features),
        "statistics": {
            "mean": torch.from_numpy(statistics.mean),
            "covariance": torch.from_numpy(statistics.covariance),
            "count": torch.tensor(statistics.count),
        },
        "real": {
            "images": real_images.contiguous(),
            "labels": real_labels.contiguous(),
            "ids": real_ids.to(torch.int32).contiguous(),
        },
    }
    for part, values in tensors.items():
        with written_aside(folder / f"{part}.safetensors") as aside:
            save_file(values, aside)
    names = [f"{part}.safetensors" for part in tensors]
    names += [f"tokenizer/{p.name}" for p in sorted((folder / "tokenizer").iterdir())]
    write_json(
        folder / DESCRIPTION,
        {
            "format": FORMAT,
            "name": name,
            "class_names": list(class_names),
            "transformer": asdict(transformer.config),
            "judge": asdict(judge.config),
            "features": asdict(features.config),
            "training": training,
            "quality": quality,
            "files": {n: sha256(folder / n) for n in names},
        },
    )


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().clone().contiguous() for k, v in module.state_dict().items()}
