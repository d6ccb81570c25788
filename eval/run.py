"""Command nat-eval: the Frechet distances of decoding policies, with pictures."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from agents.policy import LearnedPolicy
from eval import curves, plots
from eval.evaluate import Reference, check_numbers, check_rank, evaluate, floors, reference
from eval.inception import inception_v3
from eval.judges import bundle_judge, efficientnet_lite0
from eval.policies import chosen_bundle, named_policy, policy_fingerprint, run_of
from eval.tables import Results, Row, evaluation_rows, markdown_table, metrics_table
from nat_env.bundle import Bundle, load_bundle
from nat_env.files import require_writable_folder, write_text
from nat_env.policies import DecodingPolicy

RESULTS = "results.json"
TABLE = "table.md"


@dataclass(frozen=True)
class Arguments:
    """Compare decoding policies by the Frechet distance of their samples to real images.

    Writes results.json after every seed of every policy, then table.md and pictures. Called again,
    it evaluates only what is missing.
    """

    policies: tuple[str, ...]
    """Any of: heuristic (the papers' schedule), 'heuristic(lambda, k, tau1)', a schedule's file
    (json, or AutoNAT's yaml), a run folder of nat-train (its best policy) or last.safetensors in
    one. The first is what the others are compared with. {seed} in a path stands for each of the
    seeds: runs/a{seed} is a training of its own for each of them. 'name=policy' gives it a name in
    tables and pictures."""
    out: Path
    """Folder for results.json, table.md, pictures, and the second judge's statistics."""
    num_steps: int = 4
    """T, decoding steps."""
    num_samples: int = 10_000
    """N, images of each seed."""
    seeds: tuple[int, ...] = (0,)
    """One evaluation each; all policies are given the same random numbers."""
    bundle: str | None = None
    """A shipped bundle's name or a folder. By default that of the run folders, or else fashion."""
    second_judge: bool = False
    """Also judge by EfficientNet-Lite0 of ImageNet, which no training saw. Takes longer than the
    sampling, on CPUs."""
    second_judge_resolution: int = 112
    """Pixels that it resizes images to; 224 is its own, and 4 to 5 times slower."""
    inception: Path | None = None
    """Also judge by InceptionV3 with the FID's published weights, read from this file. Needs more
    than 2048 samples."""
    shuffle_features: bool = False
    """Also evaluate the learned policies with the features shuffled among the samples of a batch:
    what they lose is what they gained by adapting."""
    metrics: bool = False
    """Also precision, recall, density, coverage and kernel distance, against the bundle's real
    images."""
    pictures: bool = True
    """Draw sample grids, the quantities per step, and samples step by step."""
    batch_size: int = 128
    """Samples decoded at once."""
    threads: int = 2
    """Torch threads; one when another program is busy beside it."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the transformer; auto: bfloat16 where the hardware multiplies it fast."""
    device: str = "cpu"
    """A torch device."""
    progress: Annotated[bool, tyro.conf.Suppress] = True

    def __post_init__(self) -> None:
        """Check what nothing else checks in time.

        Raises:
            ValueError: no policy, no seed, no thread, or a number out of its range.
        """
        for name in ("policies", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name}: got none, allowed is at least one")
        if self.threads < 1:
            raise ValueError(f"threads: got {self.threads}, allowed is >= 1")
        for seed in self.seeds:
            check_numbers(self.num_samples, seed, self.batch_size)


@dataclass(frozen=True)
class Cell:
    """One evaluation of the table: a policy on one seed."""

    name: str
    policy: DecodingPolicy
    seed: int
    shuffled: bool = False
    """Evaluated with the features shuffled among samples."""


def run(arguments: Arguments) -> tuple[str, list[Path]]:
    """Evaluate what is missing, and draw.

    Returns:
        The Markdown table of the policies and seeds asked for, and the pictures' paths.

    Raises:
        ValueError: an unknown bundle or policy, a policy of another T or bundle, a number that is
            not allowed, or a folder that cannot be written.
        ImportError: the second judge's packages are not installed.
    """
    seeds = tuple(dict.fromkeys(arguments.seeds))
    every = [for_seed(split_name(s)[1], seed) for s in arguments.policies for seed in seeds]
    bundle = load_bundle(chosen_bundle(every, arguments.bundle), arguments.dtype, arguments.device)
    policies = _policies(arguments, seeds, bundle)
    learned = {n: p for n, p in policies.items() if isinstance(p[seeds[0]], LearnedPolicy)}
    if arguments.shuffle_features and not learned:
        raise ValueError("shuffle_features: allowed with a run folder among the policies, got none")
    require_writable_folder(arguments.out)
    results = Results(arguments.out / RESULTS)
    judges = _judges(arguments, bundle)

    contestants = [(name, policy, False) for name, policy in policies.items()]
    if arguments.shuffle_features:
        contestants += [(f"{name}, features shuffled", p, True) for name, p in learned.items()]
    rows: list[Row] = []
    for name, by_seed, shuffled in contestants:
        for seed, policy in by_seed.items():
            cell = Cell(name, policy, seed, shuffled)
            rows += _evaluated(arguments, bundle, results, judges, cell)
    limits = [floor for judged in judges for floor in _floors(arguments, bundle, results, judged)]

    table = markdown_table(rows, limits)
    if arguments.metrics:
        table += f"\n\n{metrics_table(rows)}"
    write_text(arguments.out / TABLE, table + "\n")
    shown = {name: by_seed[seeds[0]] for name, by_seed in policies.items()}
    pictures = []
    if arguments.pictures:
        pictures = _draw(arguments, bundle, shown, rows) + _curves(arguments, bundle, shown, rows)
    return table, pictures


def for_seed(spec: str, seed: int) -> str:
    """The policy that `spec` names for a seed.

    Example:
        >>> for_seed("runs/a{seed}", 2)
        'runs/a2'
    """
    return spec.replace("{seed}", str(seed))


def split_name(spec: str) -> tuple[str | None, str]:
    """The name that is given to a policy, if one is, and the policy.

    Example:
        >>> split_name("adaptive=runs/a{seed}"), split_name("heuristic")
        (('adaptive', 'runs/a{seed}'), (None, 'heuristic'))
    """
    name, given, policy = spec.partition("=")
    return (name, policy) if given and name and "/" not in name else (None, spec)


def _policies(
    arguments: Arguments, seeds: tuple[int, ...], bundle: Bundle
) -> dict[str, dict[int, DecodingPolicy]]:
    """By the name to print, then by seed."""
    policies = {}
    for given in dict.fromkeys(arguments.policies):
        own, spec = split_name(given)
        found = {s: named_policy(for_seed(spec, s), bundle, arguments.num_steps) for s in seeds}
        printed = spec if "{seed}" in spec else found[seeds[0]][0]
        name = own or printed
        if name in policies:
            raise ValueError(f"policies: two are named {name!r}, allowed are different names")
        policies[name] = {seed: policy for seed, (_, policy) in found.items()}
    return policies


def _judges(arguments: Arguments, bundle: Bundle) -> list[Reference]:
    judges = [bundle_judge(bundle)]
    if arguments.second_judge:
        resolution = arguments.second_judge_resolution
        judges.append(efficientnet_lite0(resolution, device=arguments.device))
    if arguments.inception is not None:
        judges.append(inception_v3(arguments.inception, device=arguments.device))
    cache = arguments.out / "references"
    references = [
        reference(bundle, judge, cache, arguments.progress, arguments.metrics) for judge in judges
    ]
    for judged in references:
        check_rank(judged, arguments.num_samples)
    return references


def _evaluated(
    arguments: Arguments,
    bundle: Bundle,
    results: Results,
    judges: list[Reference],
    cell: Cell,
) -> list[Row]:
    """The rows of a cell, one per judge: those there are, the others computed."""
    dtype = next(bundle.nat.transformer.parameters()).dtype
    identity = {
        "bundle": bundle.name,
        "bundle_fingerprint": bundle.fingerprint,
        "policy": cell.name,
        "policy_fingerprint": policy_fingerprint(cell.policy),
        "features_shuffled": cell.shuffled,
        "num_steps": arguments.num_steps,
        "seed": cell.seed,
        "num_samples": arguments.num_samples,
        "dtype": str(dtype).removeprefix("torch."),
    }
    names = [{"judge": judged.judge.name} for judged in judges]
    missing = [
        judged
        for judged, name in zip(judges, names, strict=True)
        if not _complete(results.find(identity | name), arguments.metrics)
    ]
    if missing:
        evaluation = evaluate(
            bundle,
            cell.policy,
            arguments.num_steps,
            arguments.num_samples,
            cell.seed,
            missing,
            arguments.batch_size,
            f"{cell.name}, seed {cell.seed}" if arguments.progress else None,
            cell.shuffled,
        )
        results.add(evaluation_rows(identity, evaluation, missing))
    rows = [row for n in names if (row := results.find(identity | n))]
    if arguments.progress:
        _report(rows, "" if missing else " (was there)")
    return rows


def _complete(row: Row | None, metrics: bool) -> bool:
    return row is not None and ("precision" in row or not metrics)


def _report(rows: list[Row], note: str) -> None:
    distances = ", ".join(f"{row['frechet_distance']:.2f} ({row['judge']})" for row in rows)
    about = rows[0]
    print(
        f"{about['policy']}, seed {about['seed']}: FD {distances}, N = {about['num_samples']}, "
        f"{about['images_per_second']:.0f} images/s{note}",
        flush=True,
    )


def _floors(arguments: Arguments, bundle: Bundle, results: Results, judged: Reference) -> list[Row]:
    identity = {
        "bundle": bundle.name,
        "bundle_fingerprint": bundle.fingerprint,
        "judge": judged.judge.name,
    }
    if not results.find_floors(identity):
        results.add_floors(floors(bundle, [judged], arguments.progress))
    return results.find_floors(identity)


def _draw(
    arguments: Arguments, bundle: Bundle, policies: dict[str, DecodingPolicy], rows: list[Row]
) -> list[Path]:
    """The first policy beside each other one, the quantities of all, and the learned in steps."""
    num_steps, seed, own = arguments.num_steps, arguments.seeds[0], bundle_judge(bundle).name
    tag = f"T{num_steps}"
    captions = {
        row["policy"]: f"FD {row['frechet_distance']:.2f} ({own}, N = {row['num_samples']})"
        for row in rows
        if row["judge"] == own and row["seed"] == seed
    }
    (first, *others) = policies
    pictures = []
    for other in others or [first]:
        pair = {name: policies[name] for name in dict.fromkeys([first, other])}
        path = arguments.out / f"samples_{tag}_{_slug(other)}.png"
        plots.save_sample_grids(path, bundle, pair, num_steps, seed, captions)
        pictures.append(path)
    path = arguments.out / f"quantities_{tag}.png"
    # The quantities of a policy's first row: they hardly differ between seeds.
    actions = {name: next(r["actions"] for r in rows if r["policy"] == name) for name in policies}
    plots.save_quantities(path, actions, bundle.name)
    pictures.append(path)
    for name, policy in policies.items():
        if isinstance(policy, LearnedPolicy):
            path = arguments.out / f"steps_{tag}_{_slug(name)}.png"
            plots.save_steps(path, bundle, name, policy, num_steps, seed)
            pictures.append(path)
    return pictures


def _curves(
    arguments: Arguments, bundle: Bundle, policies: dict[str, DecodingPolicy], rows: list[Row]
) -> list[Path]:
    """The trainings of learned policies (those of the first seed), and precision and recall."""
    tag, seed = f"T{arguments.num_steps}", arguments.seeds[0]
    pictures = []
    for name, given in zip(policies, dict.fromkeys(arguments.policies), strict=True):
        run_folder = run_of(for_seed(split_name(given)[1], seed))
        if run_folder and (run_folder[0] / RESULTS).is_file():  # the training has ended
            training = json.loads((run_folder[0] / RESULTS).read_text())
            about = f"{name}, seed {seed} ({training['judge']}, N = {training['num_samples']})"
            path = arguments.out / f"training_{tag}_{_slug(name)}.png"
            curves.save_training(path, training["history"], run_folder[0] / "samples", about)
            pictures.append(path)
    if arguments.metrics:
        path = arguments.out / f"precision_recall_{tag}.png"
        curves.save_precision_recall(path, rows, bundle.name)
        pictures.append(path)
    return pictures


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")


def main() -> None:
    """Entry point."""
    try:
        arguments = tyro.cli(Arguments, prog="nat-eval")
        torch.set_num_threads(arguments.threads)
        table, pictures = run(arguments)
    except (ValueError, ImportError) as error:
        raise SystemExit(f"nat-eval: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("nat-eval: interrupted; the same command goes on") from None
    print("", table, "", *pictures, arguments.out / RESULTS, sep="\n")


if __name__ == "__main__":
    main()
