"""A bundle whose conditions are the captions of a file."""

from collections.abc import Sequence
from pathlib import Path

from nat_env.bundles.bundle import Bundle
from nat_env.text.embeddings import cache_folder
from nat_env.text.prompts import fitting_prompts, read_prompts
from nat_env.text.table import missing_prompts


def with_prompts_of(bundle: Bundle, file: str | Path | None) -> Bundle:
    """The bundle with the captions of a file in place of its prompts; as it is without a file.

    Raises:
        ValueError: a bundle of classes, or without a text encoder where its table lacks a
            caption; a file that cannot be read, see `read_prompts` and `fitting_prompts`.
    """
    if file is None:
        return bundle
    if not bundle.conditions.are_prompts:
        raise ValueError(
            f"prompts: got {str(file)!r}, allowed is none: the conditions of bundle "
            f"{bundle.name!r} are classes"
        )
    prompts = read_prompts(Path(file))
    if missing_prompts(bundle.conditions, prompts):
        prompts = fitting_prompts(prompts, bundle.require("text_encoder"))
    return with_prompts_alone(bundle, prompts)


def with_prompts_alone(bundle: Bundle, prompts: Sequence[str]) -> Bundle:
    """The bundle with these prompts in place of its own, embedded once: see `cache_folder`.

    Raises:
        ValueError: see `Bundle.with_prompts`.
    """
    return bundle.with_prompts(prompts, replace=True, cache=cache_folder())
