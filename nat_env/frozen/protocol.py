"""What a frozen model has to offer: the whole of what decoding, environment and judging ask."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from torch import Tensor

from nat_env.frozen.conditions import Conditions


class NATOutput(NamedTuple):
    """One pass of a masked transformer on R canvases."""

    logits: Tensor
    """[R, N, K]; -inf where a code is forbidden."""
    features: Tensor
    """[R, M, D]: the output of the final norm, on the transformer's own grid of M places."""


class MaskedTransformer(Protocol):
    """A masked transformer, usually a `torch.nn.Module`.

    A condition is an integer 0 .. C, C for none; what it stands for, a class or a prompt, the
    transformer knows from the bundle's `Conditions`. An attribute `feature_bound`, if there is one,
    says which absolute value no feature exceeds.
    """

    @property
    def num_tokens(self) -> int:
        """N: tokens of one image, row by row."""
        ...

    @property
    def codebook_size(self) -> int:
        """K: tokens are 0 .. K - 1."""
        ...

    @property
    def mask_id(self) -> int:
        """The id that stands for a masked token: none of 0 .. K - 1."""
        ...

    @property
    def feature_grid(self) -> tuple[int, int]:
        """Places of the features along height and width: the tokens' grid, or a coarser one."""
        ...

    @property
    def feature_size(self) -> int:
        """D: numbers of a feature."""
        ...

    def __call__(self, ids: Tensor, condition: Tensor) -> NATOutput:
        """Ids [R, N] int64 and conditions [R] int64 -> logits and features of all places."""
        ...

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move to a device and dtype, in place, as `torch.nn.Module.to`."""
        ...

    def eval(self) -> Any:
        """Leave training mode."""
        ...

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Freeze the parameters, with False."""
        ...


class Tokenizer(Protocol):
    """Images to visual tokens and back."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels: multiples of the grid's."""
        ...

    @property
    def channels(self) -> int:
        """Colour channels of an image: 1 or 3."""
        ...

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens along height and width."""
        ...

    @property
    def codebook_size(self) -> int:
        """K: tokens are 0 .. K - 1."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] -> ids [B, N] int64."""
        ...

    def decode(self, ids: Tensor) -> Tensor:
        """Ids [B, N] -> images [B, C, H, W] float32 in [0, 1]; memory is bounded for any B."""
        ...

    def to(self, device: Any) -> Any:
        """Move to a device, in place."""
        ...


class Stored(Protocol):
    """A model that a bundle's folder can hold: it has a kind, and writes and reads its files."""

    kind: str
    """By which `nat_env.models.kinds` finds the class again."""

    def save(self, folder: Path) -> Mapping[str, Any]:
        """Write the weights into an empty `folder`; gives the configuration, JSON values."""
        ...

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], conditions: Conditions) -> Self:
        """The model that `save` wrote, on the CPU.

        Raises:
            ValueError: a file that is damaged, or a configuration that does not fit `conditions`.
        """
        ...
