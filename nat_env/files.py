"""Files that are written whole or not at all, and state without pickle."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

_TENSOR = "__tensor__"
_INTEGER_KEYS = "__integer_keys__"


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, renamed onto it when the block succeeds.

    A reader never sees half a file; an error or Ctrl-C inside the block leaves `path` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require_writable_folder(folder: Path) -> None:
    """Create `folder` if it is not there.

    Raises:
        ValueError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"folder: cannot write in {str(folder)!r} ({error})") from error


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Save a nested state (dicts, lists, tensors, JSON values) as one safetensors file.

    `state_dict()`s of modules and optimizers and bit-generator states of numpy are of this kind.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "state.safetensors"
        >>> save_state(path, {"step": 3, "weights": {"w": torch.ones(2)}})
        >>> load_state(path)
        {'step': 3, 'weights': {'w': tensor([1., 1.])}}
    """
    tensors: dict[str, torch.Tensor] = {}

    def skeleton(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            tensors[str(len(tensors))] = value.detach().cpu().clone().contiguous()
            return {_TENSOR: str(len(tensors) - 1)}
        if isinstance(value, dict):
            kind = {_INTEGER_KEYS: True} if any(isinstance(k, int) for k in value) else {}
            if kind and not all(isinstance(k, int) for k in value):
                raise ValueError("state: a dict has both integer and other keys")
            return kind | {str(k): skeleton(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [skeleton(v) for v in value]
        return value

    text = json.dumps(skeleton(state))
    with written_aside(path) as aside:
        save_file(tensors, aside, metadata={"skeleton": text})


def load_state(path: Path) -> dict[str, Any]:
    """Load what `save_state` saved; tensors on the CPU, tuples as lists.

    Raises:
        ValueError: the file is missing, truncated, or not of this kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            skeleton = json.loads(file.metadata()["skeleton"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"path: {str(path)!r} is missing or damaged ({error})") from error

    def restored(value: Any) -> Any:
        if isinstance(value, dict):
            if _TENSOR in value:
                return tensors[value[_TENSOR]]
            integer_keys = value.pop(_INTEGER_KEYS, False)
            return {int(k) if integer_keys else k: restored(v) for k, v in value.items()}
        if isinstance(value, list):
            return [restored(v) for v in value]
        return value

    return restored(skeleton)
