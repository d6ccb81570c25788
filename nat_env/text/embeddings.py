"""Embeddings of prompts, computed once: in memory, or in files that a table reads from."""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nat_env.storage.claims import locked
from nat_env.storage.files import explained, read_json, require_writable_folder, reserve, write_json
from nat_env.text.encoder import TextEncoder, prompts_fingerprint
from nat_env.text.prompts import short

AT_ONCE = 64
"""Prompts that an encoder is given at a time."""

_ABOUT = "about.json"
_ORDER = ("context", "pooled")


def cache_folder() -> Path:
    """Where embeddings of captions are kept for all trainings.

    In the user's cache, `$XDG_CACHE_HOME` or ~/.cache; it may be deleted at any time.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "nat-env" / "prompts"


def embedded(
    encoder: TextEncoder, prompts: Sequence[str], null: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What an encoder says of prompts, in memory.

    Args:
        encoder: of the text.
        prompts: P of them.
        null: the row of no prompt, `context` [L, E] and `pooled` [P'], either or both: the names,
            shapes and dtypes of what is wanted.

    Returns:
        By the same names [P + 1, ...], the last row that of no prompt.

    Raises:
        ValueError: the encoder gives other shapes or numbers that are not finite, or refuses one.
    """
    tables = {name: row.new_empty((len(prompts) + 1, *row.shape)) for name, row in null.items()}
    for name, row in null.items():
        tables[name][-1] = row
    for start in range(0, len(prompts), AT_ONCE):
        rows = _encoded(encoder, prompts[start : start + AT_ONCE], null)
        for name, values in rows.items():
            tables[name][start : start + len(values)] = values
    return tables


def embedded_on_disk(
    encoder: TextEncoder, prompts: Sequence[str], null: Mapping[str, Tensor], folder: Path
) -> dict[str, Tensor]:
    """As `embedded`, in files: what is there already is not computed again, and none is in memory.

    A sub-folder is named after the encoder, the prompts and the null row. Each batch is on the disk
    before it is counted, so that who is interrupted goes on where it stopped.

    Args:
        encoder: of the text.
        prompts: P of them.
        null: see `embedded`.
        folder: of all embeddings, such as `cache_folder()`.

    Returns:
        By name [P + 1, ...], read from the files where they are looked at. They cannot be written
        to.

    Raises:
        ValueError: see `embedded`; or the folder cannot be written, has no room, or another process
            writes there.
    """
    shapes = {name: (len(prompts) + 1, *row.shape) for name, row in null.items()}
    identity = {
        "encoder": encoder.fingerprint,
        "prompts": prompts_fingerprint(prompts),
        "null": _hash({name: _bytes(row).tobytes().hex() for name, row in null.items()}),
        "tables": {name: [str(row.dtype), *shapes[name]] for name, row in null.items()},
    }
    place = folder / _hash(identity)[:32]
    files = {name: place / f"{name}.bin" for name in null}
    sizes = {name: _nbytes(null[name], len(prompts) + 1) for name in null}
    if _done(place, files, sizes) < len(prompts):
        require_writable_folder(place)
        with locked(place, "cache"), explained(place):
            _fill(encoder, prompts, null, place, files, sizes)
    return {name: _mapped(files[name], shapes[name], null[name].dtype) for name in null}


def _fill(
    encoder: TextEncoder,
    prompts: Sequence[str],
    null: Mapping[str, Tensor],
    place: Path,
    files: Mapping[str, Path],
    sizes: Mapping[str, int],
) -> None:
    """Compute what is missing, batch by batch."""
    done = _done(place, files, sizes)
    if not done:
        for name, path in files.items():
            with path.open("wb") as file:
                reserve(file.fileno(), sizes[name], place)
            _write(path, _bytes(null[name]), sizes[name] - _nbytes(null[name], 1))
    for start in range(done, len(prompts), AT_ONCE):
        rows = _encoded(encoder, prompts[start : start + AT_ONCE], null)
        for name, values in rows.items():
            _write(files[name], _bytes(values), _nbytes(null[name], start))
        write_json(place / _ABOUT, {"done": min(start + AT_ONCE, len(prompts))})


def _done(place: Path, files: Mapping[str, Path], sizes: Mapping[str, int]) -> int:
    """Prompts that the files have; none where a file is missing or cut short."""
    whole = [path.is_file() and path.stat().st_size == sizes[n] for n, path in files.items()]
    if not all(whole) or not (place / _ABOUT).is_file():
        return 0
    return read_json(place / _ABOUT, "cache", lambda about: int(about["done"]))


@torch.no_grad()
def _encoded(
    encoder: TextEncoder, prompts: Sequence[str], null: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Of one batch, by the names of `null`, in its dtypes and on the CPU; checked."""
    given: dict[str, Tensor] = dict(zip(_ORDER, encoder.encode(prompts), strict=True))
    rows = {}
    for name, row in null.items():
        if given[name].shape != (len(prompts), *row.shape):
            raise ValueError(
                f"text_encoder: gives {name} {tuple(given[name].shape[1:])}, allowed is what the "
                f"transformer takes, {tuple(row.shape)}"
            )
        rows[name] = given[name].detach().to(row.device, row.dtype)
        finite = rows[name].flatten(1).isfinite().all(dim=1)
        if not bool(finite.all()):
            wrong = prompts[int((~finite).nonzero()[0])]
            raise ValueError(f"text_encoder: gave {name} that is not finite of {short(wrong)!r}")
    return rows


def _bytes(values: Tensor) -> np.ndarray:
    return values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()


def _nbytes(row: Tensor, count: int) -> int:
    return row.numel() * row.element_size() * count


def _write(path: Path, data: np.ndarray, offset: int) -> None:
    """Have bytes on the disk, at their place in a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data.data)
        file.flush()
        os.fsync(file.fileno())


def _mapped(path: Path, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A file's tensor, read page by page as it is looked at.

    Of a read-only mapping, which counts for nothing in what a machine has promised of its memory.
    """
    data = np.memmap(path, np.uint8, "r")
    with warnings.catch_warnings():  # torch knows no tensors that cannot be written to
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(data).view(dtype).view(*shape)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
