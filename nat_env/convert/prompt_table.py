"""A table of prompts from a file of what their text encoder gave."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nat_env.frozen.conditions import Conditions

_HOW = (
    "a .npz with `captions` [C], `context` [C + 1, L, E] (the last row is the empty prompt's) and, "
    "if there is one, `pooled` [C + 1, P]; or a .safetensors with these tensors and, in its "
    "metadata, the captions as a JSON list"
)


def read_prompts(path: Path | None) -> Conditions:
    """The table of conditions of a text transformer.

    Args:
        path: of a .npz or a .safetensors file, see `ConvertNAT.conditions`.

    Raises:
        ValueError: no file, one that is damaged, or without captions and context.
    """
    if path is None:
        raise ValueError(
            "conditions: got none for a transformer that takes prompts, allowed is a file of them: "
            f"{_HOW}"
        )
    try:
        captions, tensors = (_safetensors if path.suffix == ".safetensors" else _npz)(path)
        context = tensors["context"].float()
        if not all(isinstance(caption, str) for caption in captions):
            raise ValueError("captions that are no text")
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, EOFError) as error:
        raise ValueError(
            f"conditions: {str(path)!r} is no table of prompts ({error}), allowed is {_HOW}"
        ) from error
    pooled = tensors.get("pooled")
    return Conditions(tuple(captions), context, None if pooled is None else pooled.float())


def _npz(path: Path) -> tuple[list[str], dict[str, Tensor]]:
    with np.load(path, allow_pickle=False) as file:
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("one array")
        captions = file["captions"].tolist()
        names = [name for name in ("context", "pooled") if name in file]
        return list(captions), {name: torch.from_numpy(file[name]) for name in names}


def _safetensors(path: Path) -> tuple[list[str], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        captions = json.loads((file.metadata() or {})["captions"])
        names = [name for name in ("context", "pooled") if name in file.keys()]  # noqa: SIM118
        return list(captions), {name: file.get_tensor(name) for name in names}
