"""The kinds of models that a bundle's folder may hold, by part: the one place that knows them."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from nat_env.frozen.conditions import Conditions
from nat_env.frozen.precision import float32_default

KINDS: dict[str, dict[str, str]] = {
    "transformer": {
        "uvit": "nat_env.models.uvit:UViT",
        "amused": "nat_env.models.amused:Amused",
    },
    "tokenizer": {
        "vq": "nat_env.models.vq:VQTokenizer",
        "maskgit-vqgan": "nat_env.models.maskgit_vqgan:MaskGITVQGAN",
    },
    "judge": {"classifier": "nat_env.models.classifier:Classifier"},
    "trunk": {"classifier": "nat_env.models.classifier:Classifier"},
    "text_encoder": {"clip": "nat_env.text.clip:CLIPTextEncoder"},
}
"""By part and kind: module and class, see `nat_env.frozen.protocol.Stored`. A new model is one file
and one entry; an entry may be added from outside: `KINDS["transformer"]["mine"] = "mine:Mine"`."""


def save_part(folder: Path, part: str, model: Any) -> dict[str, Any]:
    """Write a model into `folder / part`; gives what `load_part` needs to know of it.

    Raises:
        ValueError: a model of no known kind.
    """
    kind = getattr(model, "kind", None)
    if kind not in KINDS[part]:
        raise ValueError(
            f"{part}: got {type(model).__name__} of kind {kind!r}, allowed are "
            f"{', '.join(map(repr, KINDS[part]))}; a kind of your own is an entry of "
            f"nat_env.models.kinds.KINDS[{part!r}]"
        )
    (folder / part).mkdir(parents=True, exist_ok=True)
    return {"kind": kind, "config": dict(model.save(folder / part))}


def load_part(
    folder: Path, part: str, description: Mapping[str, Any], conditions: Conditions
) -> Any:
    """The model that `save_part` wrote, on the CPU.

    Raises:
        ValueError: an unknown kind, or see `Stored.load`.
    """
    kind = description["kind"]
    if kind not in KINDS[part]:
        raise ValueError(
            f"{part}: got the kind {kind!r}, allowed are {', '.join(map(repr, KINDS[part]))}; a "
            f"kind of your own is an entry of nat_env.models.kinds.KINDS[{part!r}], made before "
            "the bundle is loaded"
        )
    module, _, name = KINDS[part][kind].partition(":")
    loaded = getattr(import_module(module), name)
    # Forked for random weights, which the file then replaces.
    with torch.random.fork_rng(devices=[]), float32_default():
        return loaded.load(folder / part, description["config"], conditions)
