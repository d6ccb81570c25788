"""The prompts of a training: read once, then the run's own."""

from pathlib import Path
from typing import Any

from agents.learners.config import TrainConfig
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.prompted import with_prompts_alone, with_prompts_of
from nat_env.storage.files import read_json, write_json

PROMPTS = "prompts.json"
"""In a run's folder."""


def with_run_prompts(bundle: Bundle, config: TrainConfig) -> Bundle:
    """The bundle with the training's prompts for its table of conditions; as it is without any.

    A new run reads them from the user's file, one that goes on from its own folder: it neither
    needs the file again nor follows what is written to it later. Embeddings are computed once for
    all runs, see `cache_folder`.

    Raises:
        ValueError: a bundle of classes, a file that cannot be read, or see `Bundle.with_prompts`.
    """
    if config.prompts is None or not config.resume:
        return with_prompts_of(bundle, config.prompts)
    return with_prompts_alone(bundle, read_json(config.out / PROMPTS, "prompts", _texts))


def save_run_prompts(folder: Path, bundle: Bundle) -> None:
    """Write the prompts of the bundle's table into a run's folder."""
    write_json(folder / PROMPTS, list(bundle.conditions.names))


def _texts(value: Any) -> list[str]:
    if not all(isinstance(text, str) for text in value):
        raise TypeError("not all are texts")
    return list(value)
