"""The prompts of a training: read once, then the run's own."""

from pathlib import Path
from typing import Any

from agents.learners.config import TrainConfig
from nat_env.bundles.bundle import Bundle
from nat_env.storage.files import read_json, write_json
from nat_env.text.embeddings import cache_folder
from nat_env.text.prompts import fitting_prompts, read_prompts

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
    if config.prompts is None:
        return bundle
    if not bundle.conditions.are_prompts:
        raise ValueError(
            f"prompts: got {config.prompts!r}, allowed is none: the conditions of bundle "
            f"{bundle.name!r} are classes"
        )
    if config.resume:
        prompts = read_json(config.out / PROMPTS, "prompts", _texts)
    else:
        prompts = fitting_prompts(
            read_prompts(Path(config.prompts)), bundle.require("text_encoder")
        )
    return bundle.with_prompts(prompts, replace=True, cache=cache_folder())


def save_run_prompts(folder: Path, bundle: Bundle) -> None:
    """Write the prompts of the bundle's table into a run's folder."""
    write_json(folder / PROMPTS, list(bundle.conditions.names))


def _texts(value: Any) -> list[str]:
    if not all(isinstance(text, str) for text in value):
        raise TypeError("not all are texts")
    return list(value)
