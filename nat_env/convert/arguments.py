"""The options of nat-convert: light to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class ConvertBundle:
    """Write a bundle of format 1 in today's format: the same models, the same tokens.

    It keeps its fingerprint, so that runs and results of the old one are of the new one.
    """

    old: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OLD")]
    """Folder of the bundle."""
    out: Path
    """Another folder, for the new one."""


@dataclass(frozen=True)
class ConvertNAT:
    """Make a bundle of a masked transformer and a tokenizer that others trained.

    For the files of AutoNAT, AdaNAT and MUSE-Pytorch. A bundle made so has no judge and no real
    images: it says at the end what works with it.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Weights of the transformer, as torch.save wrote them or in safetensors."""
    tokenizer: str
    """Weights of the VQGAN that MaskGIT, MAGE and MUSE share; or a bundle, whose tokenizer is
    taken."""
    out: Path
    """Folder of the bundle."""
    layout: Literal["auto", "autonat", "muse", "cc3m"] = "auto"
    """Whose names and shapes the file has: AutoNAT's, AdaNAT's and AdaGen's class-conditional
    model; MUSE-Pytorch's ImageNet model; its text-to-image model, for CC3M. `auto` tells them
    apart by their names."""
    num_heads: int | None = None
    """Attention heads, which no tensor tells; by default those of the published model of this
    layout, width and depth."""
    class_names: Path | None = None
    """A text file of the classes' names, one a line, in the order of their numbers; by default they
    are called by their numbers."""
    text_encoder: Path | None = None
    """For text: a folder of transformers with OpenCLIP's ViT-bigG/14 text encoder and its tokenizer
    (needs the extra clip). The bundle holds it, for any other prompt."""
    prompts: Path | None = None
    """With --text-encoder: captions of the bundle's table, one a line, or a .tsv or COCO's
    .json."""
    conditions: Path | None = None
    """For text, in place of --prompts: a .npz or .safetensors of embeddings with `context`
    [C + 1, L, E], whose last row is the empty prompt's, and `captions`: C of them (in safetensors a
    JSON list in the metadata); `pooled` [C + 1, P] may be there too."""
    name: str | None = None
    """Of the bundle; by default that of its folder."""


@dataclass(frozen=True)
class ConvertSchedule:
    """Write a strategy of AutoNAT's authors as a schedule, which all commands take for a policy."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The authors' .yaml."""
    out: Path
    """The .json to write."""


@dataclass(frozen=True)
class ConvertAmused:
    """Make a bundle of aMUSEd as diffusers saves it (needs the extra clip).

    It holds the transformer, the tokenizer, the text encoder for any other prompt, and a table of
    the prompts that it is trained and evaluated with. `--policy amused` is the schedule of
    diffusers' own pipeline.
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Of an AmusedPipeline, as its save_pretrained writes it, or an id of the Hugging Face hub
    (amused/amused-256)."""
    out: Path
    """Of the bundle."""
    prompts: Path | None = None
    """Captions, one a line, or a .tsv or COCO's .json; by default ten examples."""
    resolution: int | None = None
    """Pixels of a side; by default what the model was made for."""
