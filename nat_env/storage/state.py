"""Nested state (tensors, numbers, texts) in one safetensors file: without pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nat_env.storage.files import written_aside

_TENSOR = "__tensor__"
_INTEGER_KEYS = "__integer_keys__"


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
