"""The options of nat-convert: light to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Convert:
    """Write a bundle of format 1 in today's format: the same models, the same tokens.

    It keeps its fingerprint, so that runs and results of the old one are of the new one.
    """

    old: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OLD")]
    """Folder of the bundle."""
    out: Path
    """Another folder, for the new one."""


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
