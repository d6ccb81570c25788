"""Writing a bundle."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from nat_env.bundles.bundle import check_parts
from nat_env.bundles.format import (
    CONDITIONS,
    DESCRIPTION,
    FORMAT,
    PARTS,
    REALS,
    STATISTICS,
    fingerprint,
)
from nat_env.bundles.reals import TensorReals
from nat_env.bundles.yardstick import Yardstick
from nat_env.models.classifier import Classifier
from nat_env.models.conditions import Conditions
from nat_env.models.kinds import save_part
from nat_env.models.protocol import MaskedTransformer, Tokenizer
from nat_env.storage.files import require_writable_folder, sha256, write_json, written_aside


def save_bundle(
    folder: Path,
    *,
    name: str,
    conditions: Conditions,
    transformer: MaskedTransformer,
    tokenizer: Tokenizer,
    yardstick: Yardstick | None = None,
    trunk: Classifier | None = None,
    reals: TensorReals | None = None,
    training: Mapping[str, Any] | None = None,
    quality: Mapping[str, Any] | None = None,
    known_as: str | None = None,
) -> None:
    """Write a bundle; `bundle.json` comes last, so that a broken-off write is no bundle.

    Args:
        folder: of the bundle; one that is there is replaced.
        name: of the bundle.
        conditions: see `Bundle`.
        transformer: of a kind that `nat_env.models.kinds` knows.
        tokenizer: likewise.
        yardstick: see `Bundle`.
        trunk: see `Bundle`.
        reals: see `Bundle`.
        training: JSON values.
        quality: JSON values.
        known_as: the fingerprint of a bundle that holds the same models; by default a hash of the
            files.

    Raises:
        ValueError: `folder` cannot be written, a model of no known kind, or parts that do not fit
            together.
    """
    check_parts(conditions, transformer, tokenizer, yardstick, trunk, reals)
    require_writable_folder(folder)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    for part in PARTS:
        shutil.rmtree(folder / part, ignore_errors=True)
    for file in (CONDITIONS, STATISTICS, REALS):
        (folder / file).unlink(missing_ok=True)

    judge = yardstick and yardstick.judge
    models = dict(zip(PARTS, (transformer, tokenizer, judge, trunk), strict=True))
    described = {
        part: save_part(folder, part, model) for part, model in models.items() if model is not None
    }
    paths = [path for part in described for path in sorted((folder / part).iterdir())]
    for path in paths:
        path.chmod(0o644)  # some libraries write for their user alone
    names = [path.relative_to(folder).as_posix() for path in paths]
    tensors: dict[str, dict[str, Tensor]] = {}
    if yardstick is not None:
        described["judge"]["name"] = yardstick.name
        tensors[STATISTICS] = {
            "mean": torch.from_numpy(yardstick.statistics.mean),
            "covariance": torch.from_numpy(yardstick.statistics.covariance),
            "count": torch.tensor(yardstick.statistics.count),
        }
    if reals is not None:
        tensors[REALS] = {"images": reals.images, "conditions": reals.conditions}
        if reals.ids is not None:
            tensors[REALS]["ids"] = reals.ids.to(torch.int32)
    for file, values in tensors.items():
        with written_aside(folder / file) as aside:
            save_file({k: v.contiguous() for k, v in values.items()}, aside)
    names += tensors
    if conditions.save_tensors(folder / CONDITIONS):
        names.append(CONDITIONS)
    hashes = {file: sha256(folder / file) for file in names}
    write_json(
        folder / DESCRIPTION,
        {
            "format": FORMAT,
            "name": name,
            "conditions": list(conditions.names),
            **described,
            "training": training or {},
            "quality": quality or {},
            "fingerprint": known_as or fingerprint(hashes),
            "files": hashes,
        },
    )
