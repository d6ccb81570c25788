"""The options of nat-study's parts about AutoNAT: light to import."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Len

from eval.commands.arguments import NumSamples, Seed
from eval.commands.shards import ShardOptions
from eval.judges.names import JUDGES, JudgeName
from nat_env.commands.computation import Computation
from pretrain.arguments import MaskRatio

_STORED: dict[str, str] = {"budget": "images", "search_samples": "num_samples"}
"""What these are called in stored files."""


@dataclass(frozen=True)
class Alternation(Computation):
    """Optimise a schedule and the mask-ratio distribution of a NAT's training by turns.

    AutoNAT's Algorithm 1, on proxies of a shipped bundle. Every proxy training and every score is
    kept, and the same command goes on where it stopped.
    """

    out: Path
    """Folder: a sub-folder for each turn, alternation.json, and the last schedule."""
    bundle: Literal["digits", "fashion"] = "digits"
    """Gives tokenizer, judge and the proxies' architecture; its data set trains them."""
    data: Path | None = None
    """Folder with Fashion-MNIST's four IDX files, if not where Debian puts them."""
    epochs: Annotated[float, Gt(0)] = 10.0
    """Of a proxy's training."""
    start: MaskRatio = field(default_factory=lambda: MaskRatio(2.0, 1.0))
    """Distribution at the start."""
    method: Literal["autonat", "cma"] = "autonat"
    """Of the generation strategy."""
    num_steps: Annotated[int, Ge(1)] = 4
    """T."""
    budget: Annotated[int, Ge(1)] = 15_360
    """Images of one search for a schedule."""
    search_samples: Annotated[int, Ge(2)] = 256
    """Images of a score in that search."""
    proxy_samples: NumSamples = 1000
    """Images by which proxies and turns are compared."""
    turns: Annotated[int, Ge(1)] = 3
    """At most."""
    tolerance: Annotated[float, Ge(0)] = 0.01
    """It ends when the objective changes by less: epsilon of Algorithm 1."""
    seed: Seed = 0
    """Of proxies and searches."""

    def __post_init__(self) -> None:
        """Check every field, and that the budget is for one score at least.

        Raises:
            ValueError: a field out of its bounds, or a budget below `search_samples`.
        """
        super().__post_init__()
        _check_budget(self.budget, self.search_samples)

    def as_json(self) -> dict[str, Any]:
        """What the turns depend on, as files have it."""
        return _stored(self, "out", "data", "turns", "tolerance") | {
            "evaluation_samples": self.proxy_samples
        }


StudyName = Literal[
    "table-2",
    "table-6a",
    "table-6b",
    "table-6c",
    "table-6d",
    "table-6e",
    "appendix-A2",
]
"""See `eval.autonat.studies`."""


@dataclass(frozen=True)
class Ablations(ShardOptions):
    """Measure what each part of AutoNAT is worth, on small models trained here.

    Every proxy, search and distance is kept, and the same command goes on where it stopped. The
    report, ablations.md, is of all studies and seeds that its folder has lines of, in results.json.
    """

    out: Path
    """Folder for the report, and a sub-folder for each seed."""
    bundle: Literal["digits", "fashion"] = "digits"
    """Gives tokenizer, judge and the proxies' architecture; its data set trains them."""
    data: Path | None = None
    """Folder with Fashion-MNIST's four IDX files, if not where Debian puts them."""
    studies: tuple[StudyName, ...] = ()
    """Some of the studies by name; by default all."""
    seeds: Annotated[tuple[Seed, ...], Len(1)] = (0, 1, 2)
    """Of proxies, searches and evaluations alike."""
    num_steps: Annotated[int, Ge(1)] = 4
    """T."""
    epochs: Annotated[float, Gt(0)] = 20.0
    """Of a proxy's training."""
    budget: Annotated[int, Ge(1)] = 123_392
    """Images of each search for a schedule: at T = 4 16 updates, the last one scored."""
    search_samples: Annotated[int, Ge(2)] = 512
    """Images of a score in a search."""
    proxy_samples: NumSamples = 1000
    """Images by which proxies and turns are compared."""
    turns: Annotated[int, Ge(1)] = 3
    """Of the alternation, at most."""
    num_samples: NumSamples = 5000
    """N of the distances reported, on other random numbers than any search."""
    judges: tuple[JudgeName, ...] = JUDGES
    """Also report distances under these at 112 pixels, which no search saw; `--judges` alone is
    none."""

    def __post_init__(self) -> None:
        """Check every field, and that the budget is for one score at least.

        Raises:
            ValueError: a field out of its bounds, or a budget below `search_samples`.
        """
        super().__post_init__()
        _check_budget(self.budget, self.search_samples)

    def alternation(self, seed: int) -> Alternation:
        """Algorithm 1 with one seed."""
        return Alternation(
            out=self.out / f"seed{seed}" / "alternation",
            bundle=self.bundle,
            data=self.data,
            epochs=self.epochs,
            num_steps=self.num_steps,
            budget=self.budget,
            search_samples=self.search_samples,
            proxy_samples=self.proxy_samples,
            turns=self.turns,
            seed=seed,
            **self.computation(),
        )

    def as_json(self) -> dict[str, Any]:
        """What the distances depend on besides the study and the seed, as files have it."""
        return _stored(self, "out", "data", "studies", "seeds", "shard") | {
            "proxy_samples": self.proxy_samples, "evaluation_samples": self.num_samples
        }  # fmt: skip


def _check_budget(budget: int, search_samples: int) -> None:
    if budget < search_samples:
        raise ValueError(
            f"budget: got {budget}, allowed is at least search_samples = {search_samples}"
        )


def _stored(arguments: Computation, *left_out: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(asdict(arguments), default=str))
    left_out = (*left_out, *arguments.computation(), "proxy_samples", "num_samples")
    kept = {name for name in values if name not in left_out}
    return {_STORED.get(name, name): values[name] for name in values if name in kept}
