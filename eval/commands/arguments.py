"""The options of nat-eval and nat-sample: light to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from annotated_types import Ge, Le, Len, Lt

from eval.judges.names import JUDGE_RESOLUTION, JUDGES, JudgeName
from nat_env.commands.computation import Computation
from nat_env.seeds import NAT_EVAL

NumSamples = Annotated[int, Ge(2), Le(NAT_EVAL.stride)]
"""Images of an evaluation."""

Seed = Annotated[int, Ge(0), Lt(NAT_EVAL.limit)]
"""Of an evaluation."""

_OTHER_FORMATS = {".bmp", ".gif", ".jpeg", ".jpg", ".pdf", ".svg", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Eval(Computation):
    """Compare decoding policies by the Frechet distance of their samples to real images.

    Writes results.json after every seed of every policy, then table.md and pictures. Called again,
    it evaluates only what is missing.
    """

    policies: Annotated[tuple[str, ...], Len(1)]
    """Any of: heuristic (the papers' schedule), 'heuristic(lambda, k, tau1)', a schedule's file
    (json, or AutoNAT's yaml), a run folder of nat-train (its best policy) or last.safetensors in
    one, what nat-share wrote: a folder or hub:user/name. The first is what the others are compared
    with. {seed} in a path stands for each of the seeds: runs/a{seed} is a training of its own for
    each of them. 'name=policy' gives it a name in tables and pictures."""
    out: Path
    """Folder for results.json, table.md and pictures."""
    num_steps: Annotated[int, Ge(1)] | None = None
    """T, decoding steps. By default that of the runs and schedules, and 4 for heuristics alone."""
    num_samples: NumSamples = 10_000
    """N, images of each seed."""
    seeds: Annotated[tuple[Seed, ...], Len(1)] = (0,)
    """One evaluation each; all policies are given the same random numbers."""
    bundle: str | None = None
    """A shipped bundle's name or a folder. By default that of the run folders, or else fashion."""
    prompts: Path | None = None
    """Captions in place of the bundle's prompts, a file as nat-train takes it: all of them, or the
    first N. Where the bundle's judge is a classifier, which knows its own prompts alone, needs
    --clip or --inception-statistics."""
    judges: tuple[JudgeName, ...] = JUDGES
    """Judges beside the bundle's own, networks of ImageNet which no part of a bundle was trained
    with: a bundle's own judge is akin to what its policies are rewarded by. `--judges` alone is
    none. Each needs more than 1280 samples, and on CPUs longer than the sampling. Left out where
    the bundle has no real images."""
    judge_images: Annotated[int, Ge(2)] = 5000
    """Real images that each of them compares with, at most, classes alike. The first evaluation of
    a bundle embeds them and their reconstructions, 30 to 80 a second on one core, Lite2 two thirds
    as many; what a judge says of them is kept in ~/.cache/nat-env for all later ones."""
    judge_resolution: Annotated[int, Ge(32)] = JUDGE_RESOLUTION
    """Pixels that they resize images to; their own are 224 (Lite0) and 260 (Lite2), 4 to 5 times
    slower."""
    inception: Path | None = None
    """Also judge by InceptionV3 with the FID's published weights, read from this file: FID, and the
    Inception Score in ten parts. Needs more than 2048 samples."""
    inception_statistics: Path | None = None
    """With --inception: compare with these statistics of real images, a .npz with mu and sigma, as
    an FID's standard protocol asks for, and not with the bundle's real images. It then has no
    precision or recall; and the bundle needs neither judge nor real images."""
    clip: Path | None = None
    """Also the CLIP score of images and their prompts, by the model in this folder, which
    transformers loads as CLIPModel and CLIPProcessor; the papers take ViT-B/32."""
    clip_prompt: str = "{}"
    """With --clip: what is said of a condition; {} is its name, which is the prompt itself where
    the bundle's conditions are prompts."""
    conditions: Literal["balanced", "uniform"] = "balanced"
    """Classes of the samples: taken in turn, or each drawn from all, as the papers do for an FID of
    ImageNet. How uneven they then are adds to the distance."""
    shuffle_features: bool = False
    """Also evaluate the learned policies with the features shuffled among the samples of a batch.
    What they lose is at most what they gained by adapting: another sample's choice may be worse
    than one that is the same for all."""
    metrics: bool = False
    """Also precision, recall, density, coverage and kernel distance, against the bundle's real
    images, of samples, reconstructions and real images; and a table of these and of the score."""
    kept_rows: bool = False
    """Of a policy whose file is gone, take the rows that results.json has under its name; of the
    others those that it has in another dtype or of another device, too."""
    pictures: bool = True
    """Draw sample grids, the quantities per step, and samples step by step."""
    progress: Annotated[bool, tyro.conf.Suppress] = True

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: one out of its bounds, or statistics for a judge that is not asked for.
        """
        super().__post_init__()
        if self.inception_statistics is not None and self.inception is None:
            raise ValueError(
                f"inception_statistics: got {self.inception_statistics}, allowed is a file only "
                "with inception, the weights' file"
            )


@dataclass(frozen=True)
class Sample(Computation):
    """Generate images from a bundle with a schedule or a trained policy."""

    out: Path
    """A file ending in .png for one grid, or a folder for one PNG per image."""
    policy: str = "heuristic"
    """heuristic (the papers' schedule), 'heuristic(lambda, k, tau1)', a schedule's file, or a
    run folder of nat-train, or what nat-share wrote: a folder or hub:user/name."""
    beside: tuple[str, ...] = ()
    """Other policies, in rows above on the same random numbers: a picture with a column for each
    sample, its class or prompt above. Needs a .png as --out. 'name=policy' names a row."""
    bundle: str | None = None
    """A shipped bundle's name or a folder. By default that of the run folder, or else fashion."""
    num_steps: Annotated[int, Ge(1)] | None = None
    """T, decoding steps. By default that of the run or schedule, and 4 for a heuristic."""
    classes: tuple[str, ...] = ()
    """Names or numbers of the classes; all of them by default."""
    prompt: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A text, for a bundle of prompts; may be given several times. One that is not in its table is
    encoded by its text encoder. In place of classes."""
    num_samples: Annotated[int, Ge(1)] | None = None
    """Images altogether, as even among the classes as can be, class by class. By default 16; with
    --beside one of each class or prompt that is named."""
    inpaint: Annotated[tuple[Path, Path] | None, tyro.conf.arg(metavar="IMAGE MASK")] = None
    """Keep a part of IMAGE, and draw it anew where MASK is white: of any size, both of one shape.
    Every sample is another completion, of the classes that are named. A token is drawn where any of
    its pixels is white; MASK may be white at the border (out-painting), or everywhere. A grid shows
    IMAGE and what is kept of it first."""
    keep_pixels: bool = False
    """With --inpaint: put the known pixels of IMAGE over the samples. Otherwise they are what the
    tokenizer makes of the known tokens: without a seam, and not to the pixel the same."""
    gif: Path | None = None
    """Also write here how they are decoded, step by step, of at most 100 of them. Masked tokens are
    covered: the lighter, the surer the step was of what it drew there."""
    seed: Annotated[int, Ge(0)] = 0
    """Image i is drawn with the random numbers of seed + i."""
    scale: Annotated[int, Ge(1), Le(64)] | None = None
    """Pixels in a grid or GIF for each pixel of an image, by default so many that it is about 112
    wide; images in a folder are as they are."""

    def __post_init__(self) -> None:
        """Check every field, and the files' endings.

        Raises:
            ValueError: a field out of its bounds, a picture format other than PNG, or pixels to
                keep of no image.
        """
        super().__post_init__()
        if self.prompt and self.classes:
            raise ValueError(
                f"prompt: got {self.prompt!r} and the classes {self.classes!r}, allowed is one of "
                "the two"
            )
        if self.out.suffix.lower() in _OTHER_FORMATS:
            raise ValueError(f"out: got {str(self.out)!r}, allowed are a .png file or a folder")
        if self.gif is not None and self.gif.suffix.lower() != ".gif":
            raise ValueError(f"gif: got {str(self.gif)!r}, allowed is a .gif file")
        if self.keep_pixels and self.inpaint is None:
            raise ValueError("keep_pixels: got True, allowed is so only with inpaint")
        if self.beside and (self.inpaint or self.gif or not self.is_one_picture):
            raise ValueError(
                f"beside: got {self.beside!r}, allowed is so only with a .png as out, and with "
                "neither inpaint nor gif"
            )

    @property
    def is_one_picture(self) -> bool:
        """Whether `out` is a file, and not a folder for a file for each image."""
        return self.out.suffix.lower() == ".png"

    @property
    def count(self) -> int:
        """`num_samples`, or what it is by default."""
        named = len(self.prompt or self.classes) if self.beside else 0
        return self.num_samples or named or 16
