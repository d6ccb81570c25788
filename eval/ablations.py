"""AutoNAT's Tables 2 and 6 and its comparison of starts (A.2), on proxies of a shipped bundle.

python -m eval.ablations --out runs/ablations
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from agents import search
from agents.cma_es import CmaEsConfig, cma_points, moved_table
from agents.computation import machine
from agents.finite_differences import FiniteDifferencesConfig, free_entries
from eval import autonat
from eval.evaluate import Reference, check_numbers, evaluate, reference
from eval.judges import bundle_judge
from nat_env.bundle import Bundle, load_bundle
from nat_env.files import require_writable_folder, write_json, write_text
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import COLUMNS, Schedule, heuristic_schedule
from pretrain.strategy import MaskRatio, Proxies, ProxyObjective

RESULTS = "results.json"
REPORT = "ablations.md"


@dataclass(frozen=True)
class Arguments:
    """Measure what each part of AutoNAT is worth, on small models trained here.

    Every proxy, search and distance is kept, and the same command goes on where it stopped.
    """

    out: Path
    """Folder: a sub-folder for each seed, results.json and ablations.md."""
    bundle: Literal["digits", "fashion"] = "digits"
    """Gives tokenizer, judge and the proxies' architecture; its data set trains them."""
    data: Path | None = None
    """Folder with Fashion-MNIST's four IDX files, if not where Debian puts them."""
    studies: tuple[str, ...] = ()
    """Some of the studies by name; by default all."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of proxies, searches and evaluations alike."""
    num_steps: int = 4
    """T."""
    epochs: float = 10.0
    """Of a proxy's training."""
    images: int = 61_440
    """Budget of each search for a schedule."""
    num_samples: int = 512
    """Images of a score in a search."""
    turns: int = 3
    """Of the alternation, at most."""
    evaluation_samples: int = 5000
    """N of the distances reported, on other random numbers than any search."""
    threads: int = 2
    """Torch threads; one when another program is busy beside it."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: an unknown study, no seed, or a number out of its range.
        """
        for name in self.studies:
            if name not in STUDIES:
                raise ValueError(f"studies: got {name!r}, allowed are {list(STUDIES)}")
        if not self.seeds:
            raise ValueError("seeds: got none, allowed is at least one")
        for seed in self.seeds:
            check_numbers(self.evaluation_samples, seed, batch_size=1)
            _ = self.alternation(seed)

    def alternation(self, seed: int) -> autonat.Arguments:
        """Algorithm 1 with one seed."""
        return autonat.Arguments(
            out=self.out / f"seed{seed}" / "alternation",
            bundle=self.bundle,
            data=self.data,
            epochs=self.epochs,
            num_steps=self.num_steps,
            images=self.images,
            num_samples=self.num_samples,
            turns=self.turns,
            seed=seed,
            threads=self.threads,
        )


@dataclass(frozen=True)
class Line:
    """One line of a table, with one seed."""

    label: str
    frechet_distance: float
    cost: str = ""


class Laboratory:
    """Models, searches and distances with one seed, each made once."""

    def __init__(self, arguments: Arguments, seed: int) -> None:
        """Work in the sub-folder of `seed`.

        Raises:
            ValueError: an unknown bundle, or a damaged file of distances.
        """
        self.arguments, self.seed = arguments, seed
        self.folder = arguments.out / f"seed{seed}"
        self.bundle = load_bundle(arguments.bundle)
        self.reference: Reference = reference(self.bundle, bundle_judge(self.bundle))
        self._path = self.folder / "distances.json"
        self._distances: dict[str, float] = _read(self._path)

    @cached_property
    def alternation(self) -> list[dict[str, Any]]:
        """The turns of Algorithm 1."""
        return autonat.alternate(self.arguments.alternation(self.seed))

    @property
    def best_mask_ratio(self) -> str:
        """What Algorithm 1 found."""
        return self.alternation[-1]["mask_ratio"]

    @cached_property
    def proxies(self) -> Proxies:
        """The models of Algorithm 1, of the bundle's own size."""
        return autonat.proxies(self.arguments.alternation(self.seed), self.bundle)

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

    def searched(self, model: Bundle, name: str, num_steps: int, **changes: Any) -> Schedule:
        """A schedule for `model`, within the budget of one search, in the sub-folder `name`."""
        start = changes.pop("initialisation", "heuristic")
        arguments = self.arguments
        asked = search.Arguments(
            "autonat",
            out=self.folder / "searches" / name,
            bundle=arguments.bundle,
            num_steps=num_steps,
            images=arguments.images,
            num_samples=arguments.num_samples,
            seed=self.seed,
            threads=arguments.threads,
            finite_differences=FiniteDifferencesConfig(start, **changes),
        )
        return search.search(asked, model).best

    def distance(self, model: Bundle, schedule: Schedule) -> float:
        """FD under the bundle's judge, on random numbers that no search has seen."""
        key = f"{model.fingerprint} {schedule.table.tolist()} {self.arguments.evaluation_samples}"
        if key not in self._distances:
            found = evaluate(
                model,
                ScheduledPolicy(schedule),
                schedule.num_steps,
                self.arguments.evaluation_samples,
                self.seed,
                [self.reference],
            )
            self._distances[key] = found.frechet_distances[self.reference.judge.name]
            write_json(self._path, self._distances)
        return self._distances[key]


def mask_ratios(lab: Laboratory) -> Iterator[Line]:
    """Table 2: the usual distribution of mask ratios against a fixed ratio."""
    schedule = heuristic_schedule(lab.arguments.num_steps)
    for name in ("arccos", "fixed(0.8)"):
        yield Line(name, lab.distance(lab.proxies.trained(name), schedule))


def contributions(lab: Laboratory) -> Iterator[Line]:
    """Table 6a: training strategy and generation strategy, each optimised or not."""
    num_steps = lab.arguments.num_steps
    for training, mask_ratio in (("optimised", lab.best_mask_ratio), ("arccos", "arccos")):
        model = lab.proxies.trained(mask_ratio)
        found = lab.searched(model, f"{training}_T{num_steps}", num_steps)
        yield Line(f"{training} training, optimised generation", lab.distance(model, found))
        plain = lab.distance(model, heuristic_schedule(num_steps))
        yield Line(f"{training} training, heuristic generation", plain)


def convergence(lab: Laboratory) -> Iterator[Line]:
    """Table 6b: turn by turn."""
    start = lab.proxies.trained(lab.arguments.alternation(lab.seed).start.name)
    yield Line("start", lab.distance(start, heuristic_schedule(lab.arguments.num_steps)))
    for row in lab.alternation:
        model = lab.proxies.trained(row["mask_ratio"])
        distance = lab.distance(model, Schedule(torch.tensor(row["schedule"])))
        yield Line(f"after turn {row['turn']}", distance, _cost(row))


def alternating_or_concurrent(lab: Laboratory) -> Iterator[Line]:
    """Table 6c: by turns, or distribution and schedule at once with as many proxy trainings."""
    last = lab.alternation[-1]
    model = lab.proxies.trained(last["mask_ratio"])
    found = Schedule(torch.tensor(last["schedule"]))
    yield Line("alternating", lab.distance(model, found), _cost(last))
    for factor in (1, 2):
        trainings = factor * last["proxy_trainings"]
        mask_ratio, found, images = concurrent(lab, trainings)
        cost = _cost({"proxy_trainings": trainings, "images": images})
        distance = lab.distance(lab.proxies.trained(mask_ratio.name), found)
        yield Line(f"concurrent, {factor} times the proxies", distance, cost)


def transfer(lab: Laboratory) -> Iterator[Line]:
    """Table 6d: schedules of the small model on a larger one, and of T on 2 T."""
    ratio, num_steps = lab.best_mask_ratio, lab.arguments.num_steps
    small, large = lab.proxies.trained(ratio), lab.large_proxies.trained(ratio)
    found = {steps: lab.searched(small, f"optimised_T{steps}", steps) for steps in
             (num_steps, 2 * num_steps)}  # fmt: skip
    for steps, schedule in found.items():
        own = lab.searched(large, f"large_T{steps}", steps)
        about = f"larger model, T = {steps}: "
        yield Line(about + "heuristic", lab.distance(large, heuristic_schedule(steps)))
        yield Line(about + "own schedule", lab.distance(large, own))
        yield Line(about + "the small model's", lab.distance(large, schedule))
    about = f"small model, T = {2 * num_steps}: "
    stretched = found[num_steps].resampled(2 * num_steps)
    yield Line(about + "heuristic", lab.distance(small, heuristic_schedule(2 * num_steps)))
    yield Line(about + "own schedule", lab.distance(small, found[2 * num_steps]))
    yield Line(about + f"that of T = {num_steps}", lab.distance(small, stretched))


def leave_one_out(lab: Laboratory) -> Iterator[Line]:
    """Table 6e: one of the four quantities left as the heuristic has it."""
    num_steps = lab.arguments.num_steps
    model = lab.proxies.trained(lab.best_mask_ratio)
    found = lab.searched(model, f"optimised_T{num_steps}", num_steps)
    yield Line("all four", lab.distance(model, found))
    for column, name in enumerate(COLUMNS):
        rates = list(FiniteDifferencesConfig().learning_rates)
        rates[column] = 0.0
        found = lab.searched(model, f"without_{name}", num_steps, learning_rates=tuple(rates))
        yield Line(f"without {name}", lab.distance(model, found))


def initialisations(lab: Laboratory) -> Iterator[Line]:
    """The table in A.2: a search from the heuristic schedule and from a naive one."""
    num_steps = lab.arguments.num_steps
    model = lab.proxies.trained(lab.best_mask_ratio)
    yield Line("heuristic, no search", lab.distance(model, heuristic_schedule(num_steps)))
    found = lab.searched(model, f"optimised_T{num_steps}", num_steps)
    yield Line("from the heuristic", lab.distance(model, found))
    found = lab.searched(model, "naive", num_steps, initialisation="naive")
    yield Line("from naive", lab.distance(model, found))


STUDIES: dict[str, Callable[[Laboratory], Iterator[Line]]] = {
    "table-2": mask_ratios,
    "table-6a": contributions,
    "table-6b": convergence,
    "table-6c": alternating_or_concurrent,
    "table-6d": transfer,
    "table-6e": leave_one_out,
    "appendix-A2": initialisations,
}


def concurrent(lab: Laboratory, trainings: int) -> tuple[MaskRatio, Schedule, int]:
    """CMA-ES on schedule and mask-ratio distribution together: each point trains a proxy.

    Returns:
        The best pair by its own scores, and the images generated.
    """
    arguments = lab.arguments
    alternation = arguments.alternation(lab.seed)
    start, first = heuristic_schedule(arguments.num_steps), alternation.start
    size = len(free_entries(arguments.num_steps))
    points = cma_points(size + 2, lab.seed)
    point = next(points)
    best, lowest = (first, start), float("inf")
    for _ in range(trainings):
        table = moved_table(start.table, point[:size], CmaEsConfig().scales)
        schedule = Schedule(table, "concurrent")
        # The units of the line search are 1 (A.2); to four digits, for the proxy's name.
        coordinates = np.array([first.ratio, first.beta]) + point[size:]
        ratio, beta = np.maximum(coordinates, 0.1).round(4).tolist()
        mask_ratio = MaskRatio(ratio, beta)
        objective = ProxyObjective(
            lab.proxies,
            ScheduledPolicy(schedule),
            arguments.num_steps,
            alternation.evaluation_samples,
            lab.folder / "concurrent" / mask_ratio.name,
        )
        value = objective(mask_ratio)
        if value < lowest:
            best, lowest = (mask_ratio, schedule), value
        point = points.send(value)
    return *best, trainings * alternation.evaluation_samples


def report(arguments: Arguments) -> str:
    """Measure what is missing.

    Returns:
        The tables in Markdown, also written to ablations.md; their lines are in results.json.

    Raises:
        ValueError: an argument that is not allowed, or a folder that cannot be written or holds
            other ablations.
    """
    require_writable_folder(arguments.out)
    names = arguments.studies or tuple(STUDIES)
    laboratories = [Laboratory(arguments, seed) for seed in arguments.seeds]
    rows: list[dict[str, Any]] = []
    tables = []
    for name in names:
        by_seed = []
        for lab in laboratories:
            print(f"{name}, seed {lab.seed}", flush=True)
            lines = list(STUDIES[name](lab))
            by_seed.append(lines)
            rows += [{"study": name, "seed": lab.seed} | asdict(line) for line in lines]
        about = (STUDIES[name].__doc__ or "").splitlines()[0]
        tables.append(f"## {about}\n\n{table(by_seed)}")
    setting = _setting(arguments)
    write_json(arguments.out / RESULTS, {"setting": setting, "rows": rows})
    listed = "\n".join(f"- {name}: {value}" for name, value in setting.items())
    text = "\n\n".join([f"# AutoNAT's ablations on `{arguments.bundle}`", listed, *tables])
    write_text(arguments.out / REPORT, text + "\n")
    return text


def table(by_seed: list[list[Line]]) -> str:
    """Mean and sample standard deviation over seeds, line by line.

    A line that some seeds do not have (an alternation may end early) says how many have it.

    Example:
        >>> print(table([[Line("a", 1.0)], [Line("a", 2.0), Line("b", 1.0)]]))
        | | FD | seeds | cost |
        | --- | ---: | ---: | --- |
        | a | 1.50 ± 0.71 | 2 | |
        | b | 1.00 | 1 | |
    """
    lines = ["| | FD | seeds | cost |", "| --- | ---: | ---: | --- |"]
    for label in dict.fromkeys(line.label for seed in by_seed for line in seed):
        found = [line for seed in by_seed for line in seed if line.label == label]
        values = [line.frechet_distance for line in found]
        spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
        cost = "; ".join(dict.fromkeys(line.cost for line in found if line.cost))
        cells = [label, f"{np.mean(values):.2f}{spread}", str(len(values)), cost]
        lines.append("|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|")
    return "\n".join(lines)


def _cost(row: dict[str, Any]) -> str:
    return f"{row['proxy_trainings']} proxies, {row['images']} images"


def _setting(arguments: Arguments) -> dict[str, Any]:
    values = json.loads(json.dumps(asdict(arguments), default=str))
    for name in ("out", "data", "studies", "threads"):
        del values[name]
    return values | {"machine": machine()}


def _read(path: Path) -> dict[str, float]:
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"out: {path} is damaged ({error!r}); move it away") from error


def main() -> None:
    """Entry point."""
    try:
        arguments = tyro.cli(Arguments, prog="python -m eval.ablations")
        torch.set_num_threads(arguments.threads)
        text = report(arguments)
    except ValueError as error:
        raise SystemExit(f"eval.ablations: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("eval.ablations: interrupted; the same command goes on") from None
    print("", text, "", arguments.out / REPORT, sep="\n")


if __name__ == "__main__":
    main()
