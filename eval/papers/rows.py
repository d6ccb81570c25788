"""What a row of a paper's table is: models, policy and numbers, by the names of their files."""

from collections.abc import Sequence
from dataclasses import dataclass

DATASETS = {
    "in256": "ImageNet, 256 x 256",
    "in512": "ImageNet, 512 x 512",
    "coco": "MS-COCO, 256 x 256",
    "cc3m": "CC3M, 256 x 256",
}
CLASSES = ("in256", "in512")
"""Those with classes, which are drawn for 50,000 images; the others have captions, of which 30,000
images are made."""


@dataclass(frozen=True)
class PaperRow:
    """A bundle decoded by a policy, and what the paper reports of it."""

    label: str
    bundle: str
    """Folder in `bundles/`; begins with its data set's name."""
    num_steps: int
    """T."""
    fid: float
    """Published: FID-50K, or FID-30K of captions."""
    policy: str = "heuristic"
    """A named schedule; else a run folder, or a schedule's file with its ending, in `policies/`."""
    inception_score: float | None = None
    """Published, where it is."""
    how: str = ""
    """What makes the policy different from its namesakes: options of nat-train or nat-search."""

    @property
    def dataset(self) -> str:
        """A key of `DATASETS`."""
        return self.bundle.partition("-")[0]

    @property
    def has_classes(self) -> bool:
        """Whether conditions are classes, and not captions."""
        return self.dataset in CLASSES

    @property
    def num_samples(self) -> int:
        """N of the paper."""
        return 50_000 if self.has_classes else 30_000


@dataclass(frozen=True)
class PaperTable:
    """A table, without the rows of other kinds of models."""

    title: str
    rows: Sequence[PaperRow]
