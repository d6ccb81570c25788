"""Weights & Biases: what TensorBoard is given, sent there as well."""

import importlib
import uuid
from typing import Any

from agents.learners.config import TrainConfig
from nat_env.commands.extras import missing_extra
from nat_env.storage.files import write_text

RUN_ID = "wandb_id"
"""File of a run's folder: a training that is resumed goes on in the same run there."""


def wandb_module(config: TrainConfig) -> Any:
    """The package, where `config` asks for it; else None.

    Raises:
        ImportError: it is asked for and not installed.
    """
    if config.wandb is None:
        return None
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise missing_extra(f"wandb: the project {config.wandb!r} needs wandb", "wandb") from error


def start_tracking(wandb: Any, config: TrainConfig) -> Any:
    """A run of Weights & Biases that follows the TensorBoard events opened after this call.

    Raises:
        ValueError: it cannot be begun, without a login for example.
    """
    path = config.out / RUN_ID
    new = not path.exists()
    if new:
        write_text(path, uuid.uuid4().hex[:8])
    try:
        return wandb.init(
            id=path.read_text(encoding="utf-8"),
            resume="allow",
            project=config.wandb,
            name=config.out.name,
            config=config.as_json(),
            dir=str(config.out),
            sync_tensorboard=True,
        )
    except Exception as error:  # the package has many kinds: without a key, a connection, a right
        if new:
            path.unlink()
        cause = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"wandb: got the project {config.wandb!r}, which cannot be written to ({cause}); "
            "`wandb login` logs in, and WANDB_MODE=offline in the environment keeps all here"
        ) from error
