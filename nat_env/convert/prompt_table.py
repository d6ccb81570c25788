"""A table of prompts: by their text encoder, or from a file of what it gave."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nat_env.frozen.conditions import Conditions
from nat_env.text.clip import CLIPTextEncoder
from nat_env.text.embeddings import embedded
from nat_env.text.prompts import fitting_prompts, read_prompts

_HOW = (
    "a .npz with `captions` [C], `context` [C + 1, L, E] (the last row is the empty prompt's) and, "
    "if there is one, `pooled` [C + 1, P]; or a .safetensors with these tensors and, in its "
    "metadata, the captions as a JSON list"
)


def text_encoder_of(folder: Path | None) -> CLIPTextEncoder | None:
    """The text encoder of MUSE-Pytorch's text-to-image model, from a folder of transformers.

    Its last hidden state after the final norm, of all tokens, padded with token 0.

    Raises:
        ValueError: see `CLIPTextEncoder.from_folder`.
        ImportError: transformers is not installed.
    """
    return None if folder is None else CLIPTextEncoder.from_folder(folder, "last", pad_id=0)


@dataclass(frozen=True)
class PromptTable:
    """A text transformer's table of conditions, whose embeddings may be still to compute."""

    names: tuple[str, ...]
    encoder: CLIPTextEncoder | None
    read: Conditions | None
    """Of a file of embeddings."""

    @property
    def context_length(self) -> int:
        """L: tokens of a prompt; 0 where that cannot be told."""
        if self.read is not None and self.read.context is not None:
            return self.read.context.shape[1]
        return 0 if self.encoder is None else self.encoder.max_length

    def conditions(self) -> Conditions:
        """The table; what is not in a file is computed here."""
        if self.read is not None or self.encoder is None:
            return self.read or Conditions(self.names)
        context, pooled = self.encoder.encode_nothing()
        null = {"context": context, "pooled": pooled}
        return Conditions(self.names, **embedded(self.encoder, self.names, null))


def prompt_table(
    table: Path | None, prompts: Path | None, encoder: CLIPTextEncoder | None
) -> PromptTable:
    """The table of conditions of a text transformer: of a file, or of an encoder.

    Args:
        table: a .npz or a .safetensors file, see `ConvertNAT.conditions`.
        prompts: a file of captions that `encoder` shall encode; those too long are left out.
        encoder: of `text_encoder_of`.

    Raises:
        ValueError: neither or both, a file that is damaged, or without captions and context.
    """
    if table is not None and prompts is not None:
        raise ValueError("prompts: got a file beside conditions, allowed is one of them")
    if table is not None:
        read = _conditions_of_file(table)
        return PromptTable(read.names, encoder, read)
    if encoder is None or prompts is None:
        given = {"prompts": prompts, "text_encoder": encoder}
        missing = [name for name, value in given.items() if value is None]
        raise ValueError(
            f"{missing[0] if len(missing) == 1 else 'conditions'}: got none for a transformer that "
            "takes prompts, allowed are text_encoder with prompts (a file of captions), or "
            f"conditions, a file of their embeddings: {_HOW}"
        )
    return PromptTable(tuple(fitting_prompts(read_prompts(prompts), encoder)), encoder, None)


def _conditions_of_file(path: Path) -> Conditions:
    try:
        captions, tensors = (_safetensors if path.suffix == ".safetensors" else _npz)(path)
        context = tensors["context"].float()
        if not all(isinstance(caption, str) for caption in captions):
            raise ValueError("captions that are no text")
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, EOFError) as error:
        raise ValueError(
            f"conditions: {str(path)!r} is no table of prompts ({error}), allowed is {_HOW}"
        ) from error
    pooled = tensors.get("pooled")
    return Conditions(tuple(captions), context, None if pooled is None else pooled.float())


def _npz(path: Path) -> tuple[list[str], dict[str, Tensor]]:
    with np.load(path, allow_pickle=False) as file:
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("one array")
        captions = file["captions"].tolist()
        names = [name for name in ("context", "pooled") if name in file]
        return list(captions), {name: torch.from_numpy(file[name]) for name in names}


def _safetensors(path: Path) -> tuple[list[str], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        captions = json.loads((file.metadata() or {})["captions"])
        names = [name for name in ("context", "pooled") if name in file.keys()]  # noqa: SIM118
        return list(captions), {name: file.get_tensor(name) for name in names}
