"""What a bundle's folder holds: the description, and the files that it lists with their hashes.

bundle.json             format, name, conditions, a kind and a configuration for each model,
training, quality, fingerprint, files
transformer/ tokenizer/ weights, as the model's kind writes them
conditions.safetensors  what conditions are beside their names, where they are more
judge/ statistics.safetensors       the yardstick, where there is one
trunk/                  where there is one
aligner/                likewise
text_encoder/           where there is one; read when it is first asked
reals.safetensors       where there are any
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nat_env.storage.files import sha256

FORMAT = 2
DESCRIPTION = "bundle.json"
TEXT_ENCODER = "text_encoder"
PARTS = ("transformer", "tokenizer", "judge", "trunk", "aligner", TEXT_ENCODER)
"""Models, each in a folder of its own; a bundle needs the first two."""
CONDITIONS, STATISTICS, REALS = (
    f"{name}.safetensors" for name in ("conditions", "statistics", "reals")
)
_KEYS = (
    "format", "name", "conditions", "transformer", "tokenizer", "training", "quality",
    "fingerprint", "files",
)  # fmt: skip


def read_description(folder: Path) -> dict[str, Any]:
    """What `bundle.json` says, after comparing every file with its hash.

    Those of the text encoder, which may be larger than all else and is often not asked, only have
    to be there: whoever reads them compares them (`check_part`).

    Raises:
        ValueError: it is damaged or of another format, or a file is missing or differs.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        version = description["format"]
        if version == FORMAT:
            _ = [description[key] for key in _KEYS]
        hashes = dict(description["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"bundle: {folder / DESCRIPTION} is damaged ({error!r})") from error
    if version != FORMAT:
        older = "; nat-convert bundle OLD --out NEW makes one of it" if version == 1 else ""
        raise ValueError(f"bundle: format {version} in {str(folder)!r}, allowed is {FORMAT}{older}")
    described = [part for part in PARTS if part in description]
    there = {f"{part}/{path.name}" for part in described for path in (folder / part).glob("*")}
    listed = {name for name in hashes if "/" in name}
    if not there <= listed or {name.partition("/")[0] for name in listed} - set(described):
        raise ValueError(
            f"bundle: {folder / DESCRIPTION} is damaged: the models that it describes are not "
            "those of the files that it lists"
        )
    for name in hashes:
        _there(folder / name)
    read_now = {n: h for n, h in hashes.items() if n.partition("/")[0] != TEXT_ENCODER}
    check_files(folder, read_now)
    return description


def check_part(folder: Path, part: str, hashes: Mapping[str, str]) -> None:
    """Compare the files of one part with their hashes.

    Raises:
        ValueError: one is missing or differs.
    """
    check_files(folder, {n: h for n, h in hashes.items() if n.partition("/")[0] == part})


def check_files(folder: Path, hashes: Mapping[str, str]) -> None:
    """Compare files with their hashes.

    Raises:
        ValueError: one is missing or differs.
    """
    for name, expected in hashes.items():
        if sha256(_there(folder / name)) != expected:
            raise ValueError(
                f"bundle: {folder / name} is truncated or not this bundle's (hash differs)"
            )


def _there(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"bundle: {path} is missing")
    return path


def fingerprint(hashes: Mapping[str, str]) -> str:
    """One hash for all files."""
    return hashlib.sha256(json.dumps(dict(hashes), sort_keys=True).encode()).hexdigest()
