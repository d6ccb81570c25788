"""Writing a bundle."""

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
    TEXT_ENCODER,
    fingerprint,
)
from nat_env.bundles.reals import TensorReals
from nat_env.bundles.yardstick import Yardstick
from nat_env.frozen.conditions import Conditions
from nat_env.frozen.protocol import MaskedTransformer, Tokenizer
from nat_env.frozen.weights import halve
from nat_env.models.classifier import Tower
from nat_env.models.kinds import save_part
from nat_env.storage.files import sha256, write_json, written_aside
from nat_env.storage.folders import ASIDE, written_folder
from nat_env.text.encoder import TextEncoder
from nat_env.text.matcher import Matcher

WEIGHTS_DTYPES = ("float32", "float16")

_CONTENTS = (*PARTS, CONDITIONS, STATISTICS, REALS, DESCRIPTION)


def save_bundle(
    folder: Path,
    *,
    name: str,
    conditions: Conditions,
    transformer: MaskedTransformer,
    tokenizer: Tokenizer,
    yardstick: Yardstick | None = None,
    trunk: Tower | None = None,
    aligner: Matcher | None = None,
    reals: TensorReals | None = None,
    text_encoder: TextEncoder | None = None,
    training: Mapping[str, Any] | None = None,
    quality: Mapping[str, Any] | None = None,
    known_as: str | None = None,
    weights: str = "float32",
) -> None:
    """Write a bundle: whole, or not at all.

    It is written aside, and takes the place of one that is there when all of it is on the disk.

    Args:
        folder: of the bundle; one that is there is replaced.
        name: of the bundle.
        conditions: see `Bundle`.
        transformer: of a kind that `nat_env.models.kinds` knows.
        tokenizer: likewise.
        yardstick: see `Bundle`.
        trunk: see `Bundle`.
        aligner: see `Bundle`.
        reals: see `Bundle`.
        text_encoder: see `Bundle`.
        training: JSON values.
        quality: JSON values.
        known_as: the fingerprint of a bundle that holds the same models; by default a hash of the
            files.
        weights: in which they are written, all parts' but the text encoder's: `float32`, or
            `float16` of half the size, which loading turns into float32 again. (A network is of
            the same numbers before and after, if it was rounded by `.half().float()`.)

    Raises:
        ValueError: `folder` cannot be written, is in use, or holds something else under the name of
            a part; a model of no known kind, parts that do not fit together, or weights too large
            for float16.
        OSError: the disk is full, say; a bundle that was there is still there.
    """
    check_parts(conditions, transformer, tokenizer, yardstick, trunk, aligner, reals)
    if weights not in WEIGHTS_DTYPES:
        raise ValueError(f"weights: got {weights!r}, allowed are {WEIGHTS_DTYPES}")
    check_replaceable(folder)
    with written_folder(folder, DESCRIPTION, _CONTENTS) as aside:
        judge = yardstick and yardstick.judge
        given = (transformer, tokenizer, judge, trunk, aligner, text_encoder)
        models = dict(zip(PARTS, given, strict=True))
        described = {
            part: save_part(aside, part, model)
            for part, model in models.items()
            if model is not None
        }
        if weights == "float16":
            for part in (part for part in described if part != TEXT_ENCODER):
                for path in (aside / part).glob("*.safetensors"):
                    halve(path)
        paths = [path for part in described for path in sorted((aside / part).iterdir())]
        for path in paths:
            path.chmod(0o644)  # some libraries write for their user alone
        names = [path.relative_to(aside).as_posix() for path in paths]
        if text_encoder is not None:
            described[TEXT_ENCODER]["fingerprint"] = text_encoder.fingerprint
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
            with written_aside(aside / file) as path:
                save_file({k: v.contiguous() for k, v in values.items()}, path)
        names += tensors
        if conditions.save_tensors(aside / CONDITIONS):
            names.append(CONDITIONS)
        hashes = {file: sha256(aside / file) for file in names}
        write_json(
            aside / DESCRIPTION,
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


def check_replaceable(folder: Path) -> None:
    """Check that a bundle written to `folder` would replace a bundle alone.

    Raises:
        ValueError: it is no bundle, and has a file or folder of the name of a part.
    """
    if (folder / DESCRIPTION).is_file() or any(folder.glob(f"{ASIDE}*")):
        return
    for part in _CONTENTS:
        if (folder / part).exists():
            raise ValueError(
                f"folder: {str(folder)!r} is no bundle, but has a {part!r}; choose another folder"
            )
