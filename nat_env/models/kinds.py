"""The kinds of models that a bundle's folder may hold, by part: the one place that knows them."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from nat_env.commands.own_code import imported, is_own
from nat_env.frozen.conditions import Conditions
from nat_env.frozen.precision import float32_default

_TOWERS = {
    "classifier": "nat_env.models.classifier:Classifier",
    "matcher": "nat_env.text.matcher:Matcher",
}

KINDS: dict[str, dict[str, str]] = {
    "transformer": {
        "uvit": "nat_env.models.uvit:UViT",
        "amused": "nat_env.models.amused:Amused",
    },
    "tokenizer": {
        "vq": "nat_env.models.vq:VQTokenizer",
        "maskgit-vqgan": "nat_env.models.maskgit_vqgan:MaskGITVQGAN",
    },
    "judge": _TOWERS,
    "trunk": _TOWERS,
    "aligner": {"matcher": "nat_env.text.matcher:Matcher"},
    "text_encoder": {
        "clip": "nat_env.text.clip:CLIPTextEncoder",
        "sentences": "nat_env.text.sentences:StyledSentences",
    },
}
"""By part and kind: module and class, see `nat_env.frozen.protocol.Stored`. A new model of the
library is one file and one entry; one's own has the kind "module:Class" and needs no entry."""


def save_part(folder: Path, part: str, model: Any) -> dict[str, Any]:
    """Write a model into `folder / part`; gives what `load_part` needs to know of it.

    Raises:
        ValueError: a model of no known kind, or one that its kind does not lead back to.
    """
    kind = getattr(model, "kind", None)
    if not isinstance(kind, str) or kind not in KINDS[part]:
        found = _own_class(part, kind) if isinstance(kind, str) and is_own(kind) else None
        if not isinstance(model, found or ()):
            raise ValueError(
                f"{part}: got {type(model).__name__} of kind {kind!r}, allowed are {_allowed(part)}"
            )
    (folder / part).mkdir(parents=True, exist_ok=True)
    return {"kind": kind, "config": dict(model.save(folder / part))}


def load_part(
    folder: Path, part: str, description: Mapping[str, Any], conditions: Conditions
) -> Any:
    """The model that `save_part` wrote, on the CPU.

    Raises:
        ValueError: an unknown kind, a module of one's own that is not there, or see `Stored.load`.
    """
    kind = description["kind"]
    if kind in KINDS[part]:
        module, _, name = KINDS[part][kind].partition(":")
        loaded = getattr(import_module(module), name)
    elif is_own(kind):
        loaded = _own_class(part, kind)
    else:
        raise ValueError(f"{part}: got the kind {kind!r}, allowed are {_allowed(part)}")
    # Forked for random weights, which the file then replaces.
    with torch.random.fork_rng(devices=[]), float32_default():
        return loaded.load(folder / part, description["config"], conditions)


def _own_class(part: str, kind: str) -> type[Any]:
    """The class that a kind "module:Class" names, and that says so itself.

    A bundle's description thus calls nothing that was not written to be a model's class.
    """
    found = imported(kind, part)
    if not isinstance(found, type) or getattr(found, "kind", None) != kind:
        raise ValueError(f"{part}: got the kind {kind!r}, allowed is a class whose `kind` is so")
    return found


def _allowed(part: str) -> str:
    return f"{', '.join(map(repr, KINDS[part]))}, or a class's own 'module:Class'"
