"""Nested state (tensors, numbers, texts) in one safetensors file: without pickle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nat_env.storage.files import written_aside

_TENSOR = "__tensor__"
_INTEGER_KEYS = "__integer_keys__"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Save a nested state (dicts, lists, tensors, JSON values) as one safetensors file.

    `state_dict()`s of modules and optimizers and bit-generator states of numpy are of this kind.
    A number of numpy's is kept as one of Python's.

    Raises:
        ValueError: a value of another kind, which would not come back; the message says where.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "state.safetensors"
        >>> save_state(path, {"step": 3, "weights": {"w": torch.ones(2)}})
        >>> load_state(path)
        {'step': 3, 'weights': {'w': tensor([1., 1.])}}
    """
    tensors: dict[str, torch.Tensor] = {}

    def skeleton(value: Any, place: str) -> Any:
        if isinstance(value, torch.Tensor):
            tensors[str(len(tensors))] = value.detach().cpu().clone().contiguous()
            return {_TENSOR: str(len(tensors) - 1)}
        if isinstance(value, dict):
            kinds = {type(key) for key in value}
            if not (kinds <= {int} or kinds <= {str}):
                raise ValueError(
                    f"state: got keys {list(value)} in {place}, allowed are texts or integers"
                )
            kind = {_INTEGER_KEYS: True} if kinds == {int} else {}
            return kind | {str(k): skeleton(v, f"{place}[{k!r}]") for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [skeleton(v, f"{place}[{i}]") for i, v in enumerate(value)]
        if isinstance(value, np.generic):
            value = value.item()
        if value is not None and not isinstance(value, bool | int | float | str):
            raise ValueError(
                f"state: got {type(value).__name__} in {place}, allowed are tensors, numbers, "
                "texts, and lists and dicts of them"
            )
        return value

    text = json.dumps(skeleton(state, "state"))
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
