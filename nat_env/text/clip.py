"""CLIP's text tower: tokens for a text transformer to attend to, and one vector for the text."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from nat_env.frozen.conditions import Conditions
from nat_env.frozen.precision import without_autocast
from nat_env.models.transformers_folder import load_whole
from nat_env.text.encoder import check_prompts, weights_fingerprint
from nat_env.text.prompts import short

HiddenState = Literal["last", "second-last"]


class CLIPTextEncoder:
    """A `CLIPTextModelWithProjection` of transformers with its tokenizer.

    The context is one vector a token, of as many tokens as the model has positions: what a prompt
    does not fill is padded. Pooled is the projected vector of the token that ends the text, as it
    is (not of length 1). Needs transformers (the extra `clip`).
    """

    kind = "clip"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        hidden_state: HiddenState = "last",
        pad_id: int | None = None,
    ) -> None:
        """Encode by `model`, which is frozen and computes in float32.

        Args:
            model: a `CLIPTextModelWithProjection`.
            tokenizer: that belongs to it.
            hidden_state: `last`, what the last layer gives, after the final norm; `second-last`,
                what the layer before it gives, without a norm, as aMUSEd takes it.
            pad_id: the token that fills up a prompt; by default the tokenizer's own.

        Raises:
            ValueError: another hidden state, or a token that there is not.
        """
        if hidden_state not in get_args(HiddenState):
            raise ValueError(
                f"hidden_state: got {hidden_state!r}, allowed are {get_args(HiddenState)}"
            )
        self.model = model.float().eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.hidden_state: HiddenState = hidden_state
        self.pad_id = int(tokenizer.pad_token_id if pad_id is None else pad_id)
        words = int(model.config.vocab_size)
        if not 0 <= self.pad_id < words:
            raise ValueError(f"pad_id: got {self.pad_id}, allowed are 0 .. {words - 1}")

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        hidden_state: HiddenState = "last",
        pad_id: int | None = None,
        tokenizer_path: str | Path | None = None,
    ) -> Self:
        """Read model and tokenizer.

        Args:
            path: a folder, or a Hugging Face id.
            hidden_state: see `CLIPTextEncoder`.
            pad_id: likewise.
            tokenizer_path: of the tokenizer, where it has a folder of its own.

        Raises:
            ValueError: nothing there, damaged, or another kind of model.
            ImportError: transformers is not installed.
        """
        model, tokenizer = load_whole(
            "text_encoder",
            "a CLIP text encoder",
            "CLIPTextModelWithProjection",
            path,
            {"AutoTokenizer": tokenizer_path or path},
        )
        return cls(model, tokenizer, hidden_state, pad_id)

    @property
    def max_length(self) -> int:
        """L: 77 of the published ones."""
        return int(self.model.config.max_position_embeddings)

    @property
    def fingerprint(self) -> str:
        """See `TextEncoder`."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        words = sorted(self.tokenizer.get_vocab().items())
        return weights_fingerprint(
            self.model.state_dict(), repr(words), self.hidden_state, str(self.pad_id)
        )

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """See `TextEncoder`."""
        return [len(tokens) for tokens in self._tokens(prompts)]

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts -> context [P, L, E] and pooled [P, P'], float32, where the model is.

        Raises:
            ValueError: no prompts, an empty one, or one of more than L tokens.
        """
        check_prompts(prompts)
        return self._encoded(prompts)

    def encode_nothing(self) -> tuple[Tensor, Tensor]:
        """What the empty text gives, which some models take for no prompt: [L, E] and [P']."""
        context, pooled = self._encoded([""])
        return context[0], pooled[0]

    @torch.no_grad()
    def _encoded(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens, length = self._tokens(prompts), self.max_length
        for prompt, words in zip(prompts, tokens, strict=True):
            if len(words) > length:
                raise ValueError(
                    f"prompts: got {short(prompt)!r} of {len(words)} tokens, allowed are up to "
                    f"{length}"
                )
        padded = [words + [self.pad_id] * (length - len(words)) for words in tokens]
        device = self.model.device
        with without_autocast(device):
            output = self.model(
                input_ids=torch.tensor(padded, device=device), output_hidden_states=True
            )
        last = self.hidden_state == "last"
        context = output.last_hidden_state if last else output.hidden_states[-2]
        return context, output.text_embeds

    def to(self, device: Any) -> Self:
        """See `TextEncoder`."""
        self.model.to(device)
        return self

    def save(self, folder: Path) -> Mapping[str, Any]:
        """See `Stored`."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        return {"hidden_state": self.hidden_state, "pad_id": self.pad_id}

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], conditions: Conditions) -> Self:
        """See `Stored`."""
        return cls.from_folder(folder, config["hidden_state"], config["pad_id"])

    def _tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        """With those that begin and end each; none is cut off."""
        return self.tokenizer(list(prompts), truncation=False, verbose=False)["input_ids"]
