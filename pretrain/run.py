"""Command nat-pretrain: a bundle from a data set."""

import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from nat_env.bundles.bundle import check_device
from nat_env.bundles.image_folder import find_images
from nat_env.commands.command_line import parse
from pretrain.config import PRESETS, PretrainConfig
from pretrain.data import LabelledImages, digits, fashion_mnist
from pretrain.folder import check_folder, folder_config, folder_images
from pretrain.make import make_bundle


@dataclass(frozen=True, kw_only=True)
class Arguments(ABC):
    """Make a bundle: tokenizer, transformer, judge and reference statistics from a data set.

    Every part resumes from `work` where it stopped, when called again with the same configuration.
    """

    out: Path
    """Folder of the new bundle."""
    work: Path = Path("runs/pretrain")
    """Folder for checkpoints and TensorBoard events; one sub-folder per data set."""
    threads: int = 2
    """Torch threads."""
    device: str = "cpu"
    """A torch device, for the trainings."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: one is out of its range, or there is no such device.
        """
        if self.threads < 1:
            raise ValueError(f"threads: got {self.threads}, allowed is >= 1")
        check_device(self.device)

    @abstractmethod
    def prepared(self) -> tuple[LabelledImages, PretrainConfig]:
        """The data set, and what a bundle of it is made with.

        Raises:
            ValueError: files that are missing or damaged, or sizes that do not go together.
        """


@dataclass(frozen=True, kw_only=True)
class Fashion(Arguments):
    """Fashion-MNIST, as the bundle `fashion` was made."""

    data: Path | None = None
    """Folder with the four IDX files, if not where Debian puts them."""

    def prepared(self) -> tuple[LabelledImages, PretrainConfig]:
        """See `Arguments`."""
        return fashion_mnist(self.data), PRESETS["fashion"]


@dataclass(frozen=True, kw_only=True)
class Digits(Arguments):
    """scikit-learn's digits, as the bundle `digits` was made."""

    def prepared(self) -> tuple[LabelledImages, PretrainConfig]:
        """See `Arguments`."""
        return digits(), PRESETS["digits"]


@dataclass(frozen=True, kw_only=True)
class Folder(Arguments):
    """Images of your own, a sub-folder for each class: at least 10 in each, and 200 in all."""

    data: Path
    """Folder of the sub-folders, which carry the classes' names. What is no image is ignored."""
    image_size: int = 32
    """Height and width in pixels; images are resized, and cropped to the middle square. Multiples
    of 4, above 48 of 8."""
    channels: Literal[1, 3] | None = None
    """1: grey, 3: colour. By default grey if all images are."""
    codebook_size: int = 512
    """Visual tokens to choose from."""
    hidden_size: int = 128
    """Width of the transformer, a multiple of 4."""
    depth: int = 7
    """Blocks of the transformer, an odd number."""
    epochs_factor: float = 1.0
    """Trains all parts so many times as long as is usual for the number of images."""
    seed: int = 0
    """Of the trainings; the test images stay the same."""
    name: str | None = None
    """Of the bundle and its judge; by default that of the folder."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: one is out of its range.
        """
        super().__post_init__()
        for name in ("image_size", "codebook_size", "hidden_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed is >= 1")
        if self.epochs_factor <= 0:
            raise ValueError(f"epochs_factor: got {self.epochs_factor}, allowed is > 0")
        if self.seed < 0:
            raise ValueError(f"seed: got {self.seed}, allowed is >= 0")
        if self.name is not None and (not self.name or Path(self.name).name != self.name):
            raise ValueError(f"name: got {self.name!r}, allowed is a file's name")

    def prepared(self) -> tuple[LabelledImages, PretrainConfig]:
        """See `Arguments`."""
        folder = find_images(self.data)
        print(folder)
        check_folder(folder)
        side = self.image_size  # before the reading, which takes a while
        self._config(len(folder.paths)).sizes(3, (side, side), len(folder.files))
        data = folder_images(folder, self.image_size, self.channels, self.name)
        return data, self._config(len(data.train_images))

    def _config(self, num_images: int) -> PretrainConfig:
        return replace(
            folder_config(num_images, self.image_size, self.epochs_factor),
            codebook_size=self.codebook_size,
            hidden_size=self.hidden_size,
            depth=self.depth,
            seed=self.seed,
        )


def main() -> None:
    """Entry point."""
    try:
        arguments = parse(
            Annotated[Fashion, tyro.conf.subcommand("fashion")]
            | Annotated[Digits, tyro.conf.subcommand("digits")]
            | Annotated[Folder, tyro.conf.subcommand("folder")],  # type: ignore[arg-type]
            "nat-pretrain",
            description="Make a bundle: tokenizer, transformer, judge and reference statistics.",
        )
        torch.set_num_threads(arguments.threads)
        data, config = arguments.prepared()
        make_bundle(data, config, arguments.work / data.name, arguments.out, arguments.device)
        train = ["nat-train", "fashion", "--bundle", str(arguments.out), "--out", "runs/mine"]
        print(f"next, a policy for it: {shlex.join(train)}")
    except (ValueError, ImportError) as error:
        raise SystemExit(f"nat-pretrain: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("nat-pretrain: interrupted; the same command goes on") from None


if __name__ == "__main__":
    main()
