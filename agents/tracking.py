"""Weights & Biases: what TensorBoard is given, sent there as well."""

import importlib
from typing import Any

from agents.config import TrainConfig


def wandb_module(config: TrainConfig) -> Any:
    """The package, where `config` asks for it; else None.

    Raises:
        ValueError: it is asked for and not installed.
    """
    if config.wandb is None:
        return None
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise ValueError(
            f"wandb: got the project {config.wandb!r}, allowed is None without the package "
            f"({error}); install the extra `wandb`: pip install -e '.[wandb]'"
        ) from None


def start_tracking(wandb: Any, config: TrainConfig) -> Any:
    """A run of Weights & Biases that follows the TensorBoard events opened after this call."""
    return wandb.init(
        project=config.wandb,
        name=config.out.name,
        config=config.as_json(),
        dir=str(config.out),
        sync_tensorboard=True,
    )
