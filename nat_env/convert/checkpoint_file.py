"""Files of weights that others wrote, read without running what they hold."""

import argparse
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def read_state_dict(path: Path, argument: str) -> dict[str, Tensor]:
    """The tensors of a file that holds a network's and nothing else, by name.

    Args:
        path: of a safetensors file, or of one by `torch.save`: a state dict, or a dict with one
            under `state_dict`.
        argument: what the user calls the file, for the message.

    Raises:
        ValueError: see `read_checkpoint`; or the file holds something else.
    """
    checkpoint = read_checkpoint(path, argument)
    tensors = checkpoint.get("state_dict", checkpoint)
    if not isinstance(tensors, dict) or not tensors:
        raise ValueError(f"{argument}: {str(path)!r} holds no tensors; is it another file?")
    others = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(
            f"{argument}: {str(path)!r} holds {listed(others)} beside tensors, allowed are a "
            "network's tensors alone, by name; is it a checkpoint of a policy or of a training?"
        )
    return tensors


def read_checkpoint(path: Path, argument: str) -> dict[str, Any]:
    """What a file of weights holds: tensors, numbers and text by name, and the like.

    Nothing of the file is run. Of classes, an `argparse.Namespace` alone is taken, in which
    training programs keep their options; any other is refused.

    Args:
        path: of a safetensors file, or of one by `torch.save` that holds a dict.
        argument: what the user calls the file, for the message.

    Raises:
        ValueError: the file is missing, damaged, half a download or no such file, or holds other
            classes.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise ValueError(f"{argument}: {str(path)!r} cannot be read ({error.strerror})") from error
    _refuse_no_weights(head, path, argument)
    try:
        if head[8:9] == b"{":  # after eight bytes, the length of what is in braces
            return load_file(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # of a pickle's version
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_of_pickle(str(error), path, argument)) from error
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, LookupError) as error:
        reason = re.split(r"\.\s", str(error))[0] or type(error).__name__
        raise ValueError(
            f"{argument}: {str(path)!r} is damaged, half a download or no file of weights "
            f"({reason}); compare its size with the published one and download it again"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(
            f"{argument}: {str(path)!r} holds a {type(found).__name__}, allowed is a dict by name"
        )
    return found


def listed(names: list[str], most: int = 5) -> str:
    """Names in a sentence: the first of them, and how many more there are.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _refuse_no_weights(head: bytes, path: Path, argument: str) -> None:
    found = None
    if not head:
        found = "is empty"
    elif head.lstrip()[:1] == b"<":
        found = "is a web page"
    elif head.startswith(b"version https://git-lfs"):
        found = "is a pointer of Git LFS, not the file that it stands for"
    if found:
        raise ValueError(
            f"{argument}: {str(path)!r} {found}; download the file of weights itself (a download "
            "page may ask for a confirmation first)"
        )


def _of_pickle(reason: str, path: Path, argument: str) -> str:
    """Why torch refuses a pickle, and what helps."""
    name = re.search(r"GLOBAL (\S+)", reason)
    if name is None:
        return (
            f"{argument}: {str(path)!r} is no file of weights, or half a download; allowed are "
            "safetensors, and what torch.save wrote"
        )
    return (
        f"{argument}: {str(path)!r} holds objects of {name[1]}, allowed are tensors, numbers and "
        "text: anything else may run a program. If you trust whoever wrote it, write its tensors "
        "alone with torch.save, in an environment where it loads"
    )
