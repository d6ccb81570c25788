"""A model of transformers, from a folder or the hub: whole, or refused."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from nat_env.commands.extras import missing_extra


def load_whole(
    argument: str,
    purpose: str,
    model: str,
    path: str | Path,
    beside: Mapping[str, str | Path] | None = None,
    may_lack: tuple[str, ...] = (),
    extra: str = "clip",
    **options: Any,
) -> list[Any]:
    """A model, frozen and in float32, and what belongs to it.

    Args:
        argument: what the user calls the path, for the message.
        purpose: what it is for, likewise.
        model: its class in transformers, or `AutoModel`.
        path: a folder, or a Hugging Face id.
        beside: classes of processors and tokenizers, and where they are.
        may_lack: beginnings of names of tensors that are not used.
        extra: which of the distribution's extras installs what it needs.
        options: of the model's `from_pretrained`.

    Returns:
        The model, then those of `beside`.

    Raises:
        ValueError: nothing there, damaged, another kind of model, or one without all its tensors:
            transformers would leave them at random.
        ImportError: transformers is not installed.
    """
    beside = beside or {}
    try:
        import transformers

        kinds = {name: getattr(transformers, name) for name in (model, *beside)}
    except ImportError as error:
        raise missing_extra(f"{purpose} needs transformers", extra) from error
    try:
        with _without_bars():
            network, report = kinds[model].from_pretrained(
                path, output_loading_info=True, **options
            )
            others = [kinds[name].from_pretrained(where) for name, where in beside.items()]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{argument}: got {str(path)!r}, allowed is a folder or an id that transformers loads "
            f"as {' and '.join(kinds)} ({error})"
        ) from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(may_lack))
    if missing:
        raise ValueError(
            f"{argument}: {str(path)!r} lacks {len(missing)} tensors of {model} "
            f"({missing[0]}, ...); allowed is a whole one"
        )
    return [network.float().eval().requires_grad_(False), *others]


@contextmanager
def _without_bars() -> Iterator[None]:
    """No bars of transformers' own: a model is read in a second, amid what a command prints."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
