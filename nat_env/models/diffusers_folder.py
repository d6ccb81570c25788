"""A model of diffusers in a folder: its weights in safetensors with a config.json beside."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from nat_env.frozen.precision import float32_default

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def read_config(folder: Path, class_name: str) -> Mapping[str, Any]:
    """What the config.json of a model says, with a look at its weights: nothing is loaded.

    Args:
        folder: of the model.
        class_name: which of diffusers' classes it has to be.

    Raises:
        ValueError: a file is missing, cut off or damaged, or of another class.
    """
    config, weights = folder / CONFIG, folder / WEIGHTS
    for path in (config, weights):
        if not path.is_file():
            raise ValueError(
                f"folder: {path} is missing; allowed is a {class_name} as diffusers saves it, with "
                f"{CONFIG} and {WEIGHTS}"
            )
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
        found = values["_class_name"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"folder: {config} is damaged ({error!r}); download it again") from error
    if found != class_name:
        raise ValueError(f"folder: {config} is of a {found}, allowed is a {class_name}")
    check_whole(weights)
    return values


def check_whole(path: Path) -> None:
    """Check that a file of safetensors was not cut off.

    Raises:
        ValueError: it was, or is damaged.
    """
    try:
        with safe_open(path, framework="pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"folder: {path} is no whole file of safetensors, half a download perhaps ({error}); "
            "download it again"
        ) from error


def load_model(kind: Any, folder: Path) -> Any:
    """The model of diffusers' class `kind` in `folder`: frozen, in float32, on the CPU.

    Raises:
        ValueError: its files are damaged, or do not hold just what its config.json asks for;
            tensors that are missing, unknown or of another shape are named.
    """
    try:
        # Forked for random weights, which the file then replaces.
        with torch.random.fork_rng(devices=[]), float32_default():
            model, report = kind.from_pretrained(
                folder, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, TypeError, LookupError, SafetensorError) as error:
        raise ValueError(f"{folder} does not hold a {kind.__name__} ({error})") from error
    for about in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[about]:  # diffusers would warn, and leave random numbers
            names = ", ".join(map(str, sorted(report[about])))
            raise ValueError(
                f"{folder / WEIGHTS} is not of the {kind.__name__} that {CONFIG} describes: "
                f"{about.replace('_', ' ')} {names}"
            )
    return model.float().eval().requires_grad_(False)


def save_model(model: Any, folder: Path) -> None:
    """Write a model into `folder`, in one file of weights."""
    model.save_pretrained(folder, max_shard_size="1TB")
    path = folder / CONFIG
    values = json.loads(path.read_text(encoding="utf-8"))
    values.pop("_name_or_path", None)  # where it was loaded from makes it no other model
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
