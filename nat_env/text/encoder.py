"""What a text encoder has to offer, and one that is loaded when it is first asked."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor


class TextEncoder(Protocol):
    """A frozen text encoder: prompts to what a text transformer attends to.

    One that a bundle's folder can hold is `nat_env.frozen.protocol.Stored` as well.
    """

    @property
    def max_length(self) -> int:
        """L: tokens of a prompt at most, those that begin and end it among them."""
        ...

    @property
    def fingerprint(self) -> str:
        """Two encoders with the same one encode alike: embeddings on a disk are known by it."""
        ...

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """Tokens that each prompt takes, however many."""
        ...

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts -> context [P, L, E] and pooled [P, P'], each a function of its prompt alone.

        Raises:
            ValueError: a prompt of more than L tokens.
        """
        ...

    def to(self, device: Any) -> Any:
        """Move to a device, in place."""
        ...


@dataclass(eq=False)
class StoredTextEncoder:
    """The text encoder of a bundle's folder, read when it is first asked for what it holds.

    A bundle whose prompts have their embeddings never reads it.
    """

    fingerprint: str
    read: Callable[[], TextEncoder] = field(repr=False)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @cached_property
    def encoder(self) -> Any:
        """The encoder, in memory from here on."""
        return self.read().to(self.device)

    @property
    def kind(self) -> str:
        """See `Stored`."""
        return self.encoder.kind

    @property
    def max_length(self) -> int:
        """See `TextEncoder`."""
        return self.encoder.max_length

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """See `TextEncoder`."""
        return self.encoder.lengths(prompts)

    def unknown_letters(self, prompts: Sequence[str]) -> list[str]:
        """See `nat_env.text.prompts.unknown_letters`."""
        if not hasattr(self.encoder, "unknown_letters"):
            return [""] * len(prompts)
        return self.encoder.unknown_letters(prompts)

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """See `TextEncoder`."""
        return self.encoder.encode(prompts)

    def to(self, device: Any) -> "StoredTextEncoder":
        """See `TextEncoder`."""
        self.device = torch.device(device)
        if "encoder" in self.__dict__:
            self.encoder.to(device)
        return self

    def save(self, folder: Path) -> Mapping[str, Any]:
        """See `Stored`."""
        return self.encoder.save(folder)


def weights_fingerprint(weights: Mapping[str, Tensor], *others: str) -> str:
    """A hash of an encoder's weights, and of whatever else decides what it says.

    Example:
        >>> weights = {"w": torch.ones(2)}
        >>> weights_fingerprint(weights, "last") == weights_fingerprint(weights, "last")
        True
        >>> weights_fingerprint(weights, "last") == weights_fingerprint(weights, "second-last")
        False
    """
    digest = hashlib.sha256()
    for name, values in sorted(weights.items()):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)};".encode())
        digest.update(values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    for other in others:
        digest.update(other.encode() + b"\0")
    return digest.hexdigest()


def prompts_fingerprint(prompts: Iterable[str]) -> str:
    """A hash of prompts, in their order."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(prompt.encode() + b"\0")
    return digest.hexdigest()


def check_prompts(prompts: Sequence[str], argument: str = "prompts") -> None:
    """Check that there are prompts, each with something in it.

    Raises:
        ValueError: none, a single text in place of a sequence, or an empty one.

    Example:
        >>> check_prompts(["a cat", " "])
        Traceback (most recent call last):
        ValueError: prompts: got an empty one at place 1, allowed are texts
    """
    if isinstance(prompts, str) or not len(prompts):
        raise ValueError(f"{argument}: got {prompts!r}, allowed is a sequence of one or more texts")
    for place, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise ValueError(f"{argument}: got {prompt!r} at place {place}, allowed are texts")
        if not prompt.strip():
            raise ValueError(f"{argument}: got an empty one at place {place}, allowed are texts")
