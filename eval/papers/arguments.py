"""The options of nat-study paper: light to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from annotated_types import Len

from eval.commands.arguments import NumSamples, Seed
from eval.commands.shards import ShardOptions

TableName = Literal[
    "adanat-1",
    "adanat-2",
    "adanat-3",
    "adanat-4",
    "adanat-5",
    "autonat-3",
    "autonat-4",
    "autonat-5",
    "autonat-6a",
    "autonat-6b",
    "autonat-6c",
    "autonat-6d",
    "autonat-6e",
]
"""See `eval.papers.tables`."""


@dataclass(frozen=True)
class Paper(ShardOptions):
    """The tables of AdaNAT and AutoNAT: each row's command, and what is measured beside the paper.

    Prints a command for each row, and which files it still needs. With --run it evaluates the rows
    that have all of theirs; called again it goes on. The report is paper.md.
    """

    table: Annotated[tuple[TableName, ...], Len(1)]
    """Some of the tables."""
    out: Path
    """Folder for paper.md, and a sub-folder for each row."""
    weights: Path = Path("weights")
    """Folder of what rows need: bundles/ in256-s in256-l in512-l coco-s cc3m-muse, ...; policies/
    adanat-in256-s-t4 (of nat-train), autonat-in256-l-t8.json (of nat-search), ...; statistics/
    in256.npz in512.npz coco.npz cc3m.npz; inception.pth; clip/ if there is to be a CLIP score."""
    run: bool = False
    """Evaluate."""
    num_samples: NumSamples | None = None
    """N in place of the paper's 50,000, or 30,000 of captions; numbers then do not compare."""
    judge: Literal["inception", "bundle"] = "inception"
    """bundle: by each bundle's own judge, to try everything out; no FID."""
    seed: Seed = 0
    """Of the samples."""
    progress: Annotated[bool, tyro.conf.Suppress] = True
