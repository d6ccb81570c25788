"""A training's state in the host's memory, and the random numbers that it goes on with."""

from typing import Any

import numpy as np
import torch


def on_host(value: Any) -> Any:
    """A nested state that no training changes, in the host's memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: on_host(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [on_host(part) for part in value]
    return value


def random_states(device: torch.device) -> dict[str, Any]:
    """State of torch's and numpy's global generators, which stable-baselines3 draws from.

    That of the CUDA device that a training is on is among them.
    """
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    key = torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))
    return {
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
        "numpy": numpy_state | {"state": numpy_state["state"] | {"key": key}},
    }


def restore_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Restore what `random_states` gave; a run may go on on another device, or on none."""
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states["cuda"]:
        torch.cuda.set_rng_state(states["cuda"][0], device)
    inner = states["numpy"]["state"]
    key = inner["key"].numpy().astype(np.uint32)
    np.random.set_state(states["numpy"] | {"state": inner | {"key": key}})
