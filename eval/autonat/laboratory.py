"""Small models, searches and distances with one seed, each made once: what ablations stand on."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from agents.search import search
from agents.search.arguments import Arguments, FiniteDifferencesConfig
from eval.autonat import alternation
from eval.autonat.arguments import Ablations
from eval.autonat.cost import row_passes
from eval.evaluation.measure import measure
from eval.judges.embedding import shared_cache
from eval.judges.judge import bundle_judge
from eval.judges.references import Reference, independent_judges, reference
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import check_bundle_rank
from nat_env.bundles.loading import load_bundle
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import Schedule
from nat_env.storage.files import read_json, write_json
from pretrain.strategy import Proxies

Cost = Mapping[str, int]
"""Numbers by what they count: proxies, images, row-passes, updates."""


class Laboratory:
    """Models, searches and distances with one seed."""

    def __init__(self, setting: Ablations, seed: int) -> None:
        """Work in the sub-folder of `seed`.

        Raises:
            ValueError: an unknown bundle, too few samples for its judge, or a damaged file of
                distances.
        """
        self.setting, self.seed = setting, seed
        self.folder = setting.out / f"seed{seed}"
        self.bundle = load_bundle(setting.bundle, **setting.models())
        for name in ("search_samples", "proxy_samples", "num_samples"):
            check_bundle_rank(self.bundle, getattr(setting, name), name)
        others = independent_judges(self.bundle, setting.judges, setting.num_samples)
        self.judges: list[Reference] = [
            reference(self.bundle, judge, shared_cache())
            for judge in (bundle_judge(self.bundle), *others)
        ]
        self._path = self.folder / "distances.json"
        self._distances: dict[str, dict[str, float]] = (
            read_json(self._path, "out", dict) if self._path.is_file() else {}
        )

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
        self, model: Bundle, name: str, num_steps: int, budget: int | None = None, **changes: Any
    ) -> tuple[Schedule, Cost]:
        """A schedule for `model` from a search of its own, kept in the sub-folder `name`.

        Args:
            model: whose schedule it is.
            name: of the search.
            num_steps: T.
            budget: images; by default that of the setting.
            **changes: of `FiniteDifferencesConfig`.
        """
        setting = self.setting
        asked = Arguments(
            "autonat",
            out=self.folder / "searches" / name,
            bundle=setting.bundle,
            num_steps=num_steps,
            budget=budget or setting.budget,
            num_samples=setting.search_samples,
            seed=self.seed,
            **setting.computation(),
            finite_differences=FiniteDifferencesConfig(**changes),
        )
        found = search.search(asked, model)
        return found.best, {"images": found.images, "updates": found.updates}

    def distances(self, model: Bundle, schedule: Schedule) -> dict[str, float]:
        """FD by judge, on random numbers that no search has seen."""
        num_samples = self.setting.num_samples
        precision = f"{model.dtype} {model.decoder_dtype}"
        key = f"{model.fingerprint} {schedule.table.tolist()} {num_samples} {precision}"
        names = {judged.judge.name for judged in self.judges}
        if not names <= self._distances.get(key, {}).keys():
            found = measure(
                model,
                ScheduledPolicy(schedule),
                schedule.num_steps,
                num_samples,
                self.seed,
                self.judges,
                self.setting.batch_size,
            )
            self._distances[key] = dict(found.frechet_distances)
            write_json(self._path, self._distances)
        return self._distances[key]
