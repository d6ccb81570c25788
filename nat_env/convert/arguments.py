"""The options of nat-convert bundle: light to import."""

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
