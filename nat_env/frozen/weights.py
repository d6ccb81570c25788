"""Weights of a network: in one safetensors file, or drawn by a seed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from nat_env.storage.files import written_aside

WEIGHTS = "model.safetensors"


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Draw the weights of networks that are made within by `seed`, and others' numbers as before.

    Networks are made on the CPU. Its generator alone is seeded and put back: `torch.manual_seed`
    would leave those of accelerators at the seed for good.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def save_weights(network: nn.Module, folder: Path) -> None:
    """Write `network`'s weights into `folder`."""
    state = {k: v.detach().cpu().clone().contiguous() for k, v in network.state_dict().items()}
    with written_aside(folder / WEIGHTS) as aside:
        save_file(state, aside)


def round_to_half(network: nn.Module) -> None:
    """Make the weights those that `halve` leaves: what is measured then is what will be loaded.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> _ = nn.init.constant_(layer.weight, 0.1)
        >>> round_to_half(layer)
        >>> layer.weight.item() == torch.tensor(0.1).half().item()
        True
    """
    network.half().float()


def halve(path: Path) -> None:
    """Write a file of safetensors anew, with its float32 numbers as float16.

    Networks that read it are float32 all the same: the nearest numbers are copied into theirs.

    Raises:
        ValueError: a number that is too large for float16.
    """
    with safe_open(path, framework="pt") as file:
        metadata, weights = file.metadata(), {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    for name, values in weights.items():
        if values.dtype == torch.float32:
            weights[name] = values.half()
            if not weights[name].isfinite().all():
                raise ValueError(
                    f"weights: got up to {float(values.abs().max()):.3g} in {name}, allowed in "
                    f"float16 is up to {torch.finfo(torch.float16).max:.0f}; keep float32"
                )
    with written_aside(path) as aside:
        save_file(weights, aside, metadata)


def load_weights(network: nn.Module, folder: Path) -> None:
    """Read what `save_weights` wrote into `network`.

    Raises:
        ValueError: a file that is damaged or another network's, or weights that are not finite:
            nothing that is decoded or judged by them would be.
    """
    path = folder / WEIGHTS
    try:
        weights = load_file(path)
        network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold this network ({error})") from error
    for name, values in weights.items():
        if not values.isfinite().all():
            raise ValueError(f"{name} in {path} is not finite; make the bundle anew")
