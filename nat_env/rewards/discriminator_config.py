"""What a discriminator is made of and how it learns, apart from the networks: light to import."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Len, MultipleOf

from nat_env.commands.bounds import check_bounds

GROUPS = 8
"""Of the group norms; widths are multiples of it."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Architecture and training of the discriminator."""

    trunk: Literal["bundle", "scratch", "efficientnet", "transformer"] = "scratch"
    """`scratch`: all trained. Else heads on a frozen network: `bundle`, which the bundle holds,
    `efficientnet` (Lite0 of ImageNet: no independent judge any more), `transformer` (DINO, ...)."""
    trunk_path: str | None = None
    """Of a transformer: a folder or a hub id such as `facebook/dino-vits16`."""
    trunk_resolution: Annotated[int, Ge(1)] = 112
    """Pixels that `efficientnet` and `transformer` resize images to; 224 in the authors' code, four
    times slower."""
    widths: Annotated[tuple[Annotated[int, Gt(0), MultipleOf(GROUPS)], ...], Len(1)] = (32, 64, 128)
    """From scratch: of each convolution, which halves the resolution. Else the last is a head's."""
    learning_rate: Annotated[float, Gt(0)] = 5e-4
    """Of Adam."""
    batch_size: Annotated[int, Ge(1)] = 128
    """Real and as many generated images of one update."""
    loss: Literal["bce", "hinge"] = "bce"
    """`bce` (the authors' code) or `hinge`."""
    reward_form: Literal["sigmoid", "logit", "softplus"] = "sigmoid"
    """Of the mean logit: `sigmoid` (the authors' code), `logit`, or `softplus`."""
    augment: bool = False
    """Augment real and generated images of updates; never those that are rewarded."""
    flip: bool = False
    """Mirror half of the real images of updates, at random, as the authors' code does."""
    r1: Annotated[float, Ge(0)] = 0.0
    """Weight of the gradient penalty on real images (R1, Mescheder 2018), off in the authors'."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: one is out of its bounds.
        """
        check_bounds(self)
