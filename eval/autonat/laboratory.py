"""Small models, searches and distances with one seed, each made once: what ablations stand on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from agents.search import search
from agents.search.finite_differences import FiniteDifferencesConfig
from eval.autonat import alternation
from eval.autonat.cost import row_passes
from eval.evaluation.evaluate import check_numbers, evaluate
from eval.judges.embedding import feature_count
from eval.judges.judge import bundle_judge, efficientnet_lite0
from eval.judges.references import CACHE, Reference, reference
from nat_env.bundles.bundle import Bundle, load_bundle
from nat_env.bundles.judging import check_rank, check_samples
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import Schedule
from nat_env.storage.files import write_json
from pretrain.strategy import Proxies

Cost = Mapping[str, int]
"""Numbers by what they count: proxies, images, row-passes, updates."""


@dataclass(frozen=True)
class Setting:
    """Options of a command that trains small models and searches for their schedules."""

    out: Path
    """Folder for the report, and a sub-folder for each seed."""
    bundle: Literal["digits", "fashion"] = "digits"
    """Gives tokenizer, judge and the proxies' architecture; its data set trains them."""
    data: Path | None = None
    """Folder with Fashion-MNIST's four IDX files, if not where Debian puts them."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of proxies, searches and evaluations alike."""
    num_steps: int = 4
    """T."""
    epochs: float = 20.0
    """Of a proxy's training."""
    images: int = 123_392
    """Budget of each search for a schedule: at T = 4 16 updates, the last one scored."""
    num_samples: int = 512
    """Images of a score in a search."""
    proxy_samples: int = 1000
    """Images by which proxies and turns are compared."""
    turns: int = 3
    """Of the alternation, at most."""
    evaluation_samples: int = 5000
    """N of the distances reported, on other random numbers than any search."""
    second_judge: bool = True
    """Also report distances under EfficientNet-Lite0 at 112 pixels, which no search saw."""
    threads: int = 2
    """Torch threads; one when another program is busy beside it."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: no seed, or a number out of its range.
        """
        if not self.seeds:
            raise ValueError("seeds: got none, allowed is at least one")
        for seed in self.seeds:
            check_numbers(self.evaluation_samples, seed, batch_size=1)
            _ = self.alternation(seed)

    def alternation(self, seed: int) -> alternation.Arguments:
        """Algorithm 1 with one seed."""
        return alternation.Arguments(
            out=self.out / f"seed{seed}" / "alternation",
            bundle=self.bundle,
            data=self.data,
            epochs=self.epochs,
            num_steps=self.num_steps,
            images=self.images,
            num_samples=self.num_samples,
            evaluation_samples=self.proxy_samples,
            turns=self.turns,
            seed=seed,
            threads=self.threads,
        )


class Laboratory:
    """Models, searches and distances with one seed."""

    def __init__(self, setting: Setting, seed: int) -> None:
        """Work in the sub-folder of `seed`.

        Raises:
            ValueError: an unknown bundle, too few samples for its judge, or a damaged file of
                distances.
        """
        self.setting, self.seed = setting, seed
        self.folder = setting.out / f"seed{seed}"
        self.bundle = load_bundle(setting.bundle)
        for name in ("num_samples", "proxy_samples", "evaluation_samples"):
            samples = getattr(setting, name)
            check_rank(self.bundle.judge_name, self.bundle.statistics, samples, name)
        judges = [bundle_judge(self.bundle)]
        if setting.second_judge:
            judges.append(second := efficientnet_lite0(112))
            size = feature_count(self.bundle, second)
            check_samples(second.name, size, setting.evaluation_samples, "evaluation_samples")
        cache = setting.out / CACHE
        self.judges: list[Reference] = [reference(self.bundle, judge, cache) for judge in judges]
        self._path = self.folder / "distances.json"
        self._distances: dict[str, dict[str, float]] = _read(self._path)

    @cached_property
    def alternation(self) -> list[dict[str, Any]]:
        """The turns of Algorithm 1."""
        return alternation.alternate(self.setting.alternation(self.seed))

    @property
    def best_mask_ratio(self) -> str:
        """What Algorithm 1 found."""
        return self.alternation[-1]["mask_ratio"]

    @cached_property
    def proxies(self) -> Proxies:
        """The models of Algorithm 1, of the bundle's own size."""
        return alternation.proxies(self.setting.alternation(self.seed), self.bundle)

    @cached_property
    def large_proxies(self) -> Proxies:
        """Models of twice the width and two blocks more."""
        small = self.proxies
        wider = replace(
            small.architecture,
            hidden_size=2 * small.architecture.hidden_size,
            depth=small.architecture.depth + 2,
        )
        return Proxies(
            self.bundle, small.ids, small.labels, small.training, self.folder / "large", self.seed,
            wider,
        )  # fmt: skip

    def cost(self, proxies: int, images: int) -> Cost:
        """Of training so many proxies and generating images with them, in row-passes too."""
        loop = self.proxies.training.loop
        rows = loop.total_steps(len(self.proxies.ids)) * loop.batch_size
        passes = row_passes(proxies * rows, images, self.setting.num_steps)
        return {"proxies": proxies, "images": images, "row-passes": passes}

    def searched(
        self, model: Bundle, name: str, num_steps: int, images: int | None = None, **changes: Any
    ) -> tuple[Schedule, Cost]:
        """A schedule for `model` from a search of its own, kept in the sub-folder `name`.

        Args:
            model: whose schedule it is.
            name: of the search.
            num_steps: T.
            images: budget; by default that of the setting.
            **changes: of `FiniteDifferencesConfig`.
        """
        setting = self.setting
        asked = search.Arguments(
            "autonat",
            out=self.folder / "searches" / name,
            bundle=setting.bundle,
            num_steps=num_steps,
            images=images or setting.images,
            num_samples=setting.num_samples,
            seed=self.seed,
            threads=setting.threads,
            finite_differences=FiniteDifferencesConfig(**changes),
        )
        found = search.search(asked, model)
        return found.best, {"images": found.images, "updates": found.updates}

    def distances(self, model: Bundle, schedule: Schedule) -> dict[str, float]:
        """FD by judge, on random numbers that no search has seen."""
        num_samples = self.setting.evaluation_samples
        key = f"{model.fingerprint} {schedule.table.tolist()} {num_samples}"
        names = {judged.judge.name for judged in self.judges}
        if not names <= self._distances.get(key, {}).keys():
            found = evaluate(
                model,
                ScheduledPolicy(schedule),
                schedule.num_steps,
                num_samples,
                self.seed,
                self.judges,
            )
            self._distances[key] = dict(found.frechet_distances)
            write_json(self._path, self._distances)
        return self._distances[key]


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"out: {path} is damaged ({error!r}); move it away") from error
