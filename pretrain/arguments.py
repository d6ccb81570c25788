"""The options of nat-pretrain, and a mask ratio that is searched for: light to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from nat_env.commands.computation import DeviceOptions
from pretrain.data.names import check_name
from pretrain.parallel.options import ExecutionOptions


@dataclass(frozen=True, kw_only=True)
class MakingOptions(ExecutionOptions):
    """Where it is made, and kept."""

    out: Path
    """Folder of the new bundle."""
    work: Path | None = None
    """Folder for checkpoints and TensorBoard events, with a sub-folder per data set. By default
    beside the bundle: OUT.work."""

    @property
    def parts(self) -> Path:
        """`work`, or what it is by default."""
        out = self.out if self.out.name not in ("", "..") else self.out.resolve()
        return self.work or Path(f"{out}.work")


@dataclass(frozen=True, kw_only=True)
class Fashion(MakingOptions):
    """Fashion-MNIST, as the bundle `fashion` was made."""

    data: Path | None = None
    """Folder with the four IDX files, if not where Debian puts them."""


@dataclass(frozen=True, kw_only=True)
class Digits(MakingOptions):
    """scikit-learn's digits, as the bundle `digits` was made."""


@dataclass(frozen=True, kw_only=True)
class Emoji(MakingOptions):
    """Colour emoji with captions, as the bundle `emoji` was made."""

    data: Path | None = None
    """Folder with the three npm packages, as tarballs or unpacked, or with their `node_modules`.
    By default npm fetches them once: @iconify-json/noto 1.2.9, twemoji 1.2.5 and
    fluent-emoji-flat 1.2.6."""
    image_size: Annotated[int, Ge(1)] = 32
    """Height and width in pixels, a multiple of 4."""


@dataclass(frozen=True, kw_only=True)
class Folder(MakingOptions):
    """Images of your own, a sub-folder for each class: at least 10 in each, and 200 in all."""

    data: Path
    """Folder of the sub-folders, which carry the classes' names. What is no image is ignored."""
    image_size: Annotated[int, Ge(1)] = 32
    """Height and width in pixels; images are resized, and cropped to the middle square. Multiples
    of 4, above 48 of 8."""
    channels: Literal[1, 3] | None = None
    """1: grey, 3: colour. By default grey if all images are."""
    codebook_size: Annotated[int, Ge(1)] = 512
    """Visual tokens to choose from."""
    hidden_size: Annotated[int, Ge(1)] = 128
    """Width of the transformer, a multiple of 4."""
    depth: int = 7
    """Blocks of the transformer, an odd number."""
    epochs_factor: Annotated[float, Gt(0), Le(1000)] = 1.0
    """Trains all parts so many times as long as is usual for the number of images."""
    seed: Annotated[int, Ge(0)] = 0
    """Of the trainings; the test images stay the same."""
    name: str | None = None
    """Of the bundle and its judge; by default that of the folder."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: one out of its bounds, or a name that is no file's.
        """
        super().__post_init__()
        if self.name is not None:
            check_name("name", self.name)


@dataclass(frozen=True, kw_only=True)
class Tokens(DeviceOptions):
    """The tokens of a folder of images, computed once: a transformer is trained on them.

    Written in shards; the same command goes on where it stopped. An image that cannot be read is
    left out and named at the end.
    """

    data: Path
    """Folder of one sub-folder per class of the bundle; of ImageNet it is `train`."""
    bundle: str
    """A bundle's name or folder: its tokenizer, and its classes."""
    out: Path
    """Folder of the tokens."""
    crop: Literal["lanczos", "adm"] = "lanczos"
    """How images are brought to the bundle's size: cropped and resized once, or as ADM and the
    papers' code do with ImageNet at 256 and 512 pixels."""
    flips: bool = True
    """Also of each mirror image, as the papers have it."""
    shard_images: Annotated[int, Ge(1)] = 32_768
    """Images of a file: what is done again, at most, after an interruption."""


@dataclass(frozen=True)
class MaskRatio:
    """A Beta distribution of mask ratios in the coordinates of the search (A.2)."""

    ratio: float
    """alpha / beta."""
    beta: float

    @property
    def name(self) -> str:
        """As `TransformerTraining.mask_ratio` takes it.

        Example:
            >>> MaskRatio(ratio=4, beta=3).name
            'beta(12, 3)'
        """
        return f"beta({self.ratio * self.beta:g}, {self.beta:g})"
