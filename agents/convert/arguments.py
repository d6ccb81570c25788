"""The options of nat-convert policy: light to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from annotated_types import Ge, Lt

from nat_env.commands.bounds import check_bounds


@dataclass(frozen=True)
class ConvertPolicy:
    """Write a policy that AdaNAT's or AdaGen's authors have trained as a run folder.

    It is taken wherever a run of nat-train is: `nat-sample --policy OUT`,
    `nat-eval --policies heuristic OUT`.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A checkpoint of AdaNAT's train.py, of which `policy_old.actor` is taken, or a policy of
    AdaGen for MaskGIT. Nothing in it is run."""
    bundle: str
    """The bundle of the transformer that it was trained for: 16 x 16 places of features."""
    num_steps: Annotated[int, Ge(1)]
    """T that it was trained for, which the file does not say."""
    out: Path
    """A new or empty folder."""
    residual: Literal["authors"] | None = None
    """authors: the schedule that its outputs are added to, AdaNAT's --heu 1 (CC3M), and AdaGen's.
    None: no schedule, --heu 0 (ImageNet)."""
    action_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """AdaGen's alpha: 0.8 for MaskGIT."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: one out of its bounds.
        """
        check_bounds(self)
