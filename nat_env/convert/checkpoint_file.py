"""Weights in files of others, read without running what is in them."""

import argparse
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def read_checkpoint(path: Path, argument: str) -> Any:
    """What a file of `torch.save` or safetensors holds; tensors on the CPU.

    Of classes only tensors, plain containers and `argparse.Namespace` are made, and no code of the
    file is run.

    Args:
        path: of the file.
        argument: what the user calls it, for the message.

    Raises:
        ValueError: no such file, one that is damaged, or one with other classes.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{argument}: {path} is damaged, or holds what is neither a tensor nor a Namespace of "
            f"argparse, and is not unpickled ({str(error).splitlines()[0]})"
        ) from error
    except (
        OSError, RuntimeError, ValueError, KeyError, EOFError, SafetensorError, zipfile.BadZipFile
    ) as error:  # fmt: skip
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{argument}: {path} is missing, damaged or no checkpoint ({reason})"
        ) from error


def read_state_dict(path: Path, argument: str) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Raises:
        ValueError: see `read_checkpoint`, or what it holds is something else.
    """
    found = read_checkpoint(path, argument)
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ValueError(f"{argument}: {path} holds more than tensors by name")
    return found
