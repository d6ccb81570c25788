"""Command nat-eval: the Frechet distances of decoding policies, with pictures."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from eval.evaluation.cells import Cell, complete
from eval.evaluation.evaluate import check_numbers
from eval.evaluation.floors import floors
from eval.evaluation.policies import (
    chosen_bundle,
    for_seed,
    is_gone,
    named_contestants,
    split_name,
)
from eval.evaluation.rows import Results, Row
from eval.evaluation.tables import adaptation_table, markdown_table, metrics_table
from eval.judges.embedding import feature_count
from eval.judges.inception import inception_v3
from eval.judges.judge import bundle_judge, efficientnet_lite0
from eval.judges.references import CACHE, Reference, reference, reference_from_file
from eval.pictures.album import Album, draw_policies, draw_precision_recall, draw_trainings
from nat_env.bundles.bundle import Bundle, load_bundle
from nat_env.bundles.judging import check_rank, check_samples
from nat_env.commands.command_line import parse
from nat_env.commands.computation import Computation
from nat_env.storage.files import require_writable_folder, write_text

RESULTS = "results.json"
TABLE = "table.md"


@dataclass(frozen=True)
class Arguments(Computation):
    """Compare decoding policies by the Frechet distance of their samples to real images.

    Writes results.json after every seed of every policy, then table.md and pictures. Called again,
    it evaluates only what is missing.
    """

    policies: tuple[str, ...]
    """Any of: heuristic (the papers' schedule), 'heuristic(lambda, k, tau1)', a schedule's file
    (json, or AutoNAT's yaml), a run folder of nat-train (its best policy) or last.safetensors in
    one, what nat-share wrote: a folder or hub:user/name. The first is what the others are compared
    with. {seed} in a path stands for each of the seeds: runs/a{seed} is a training of its own for
    each of them. 'name=policy' gives it a name in tables and pictures."""
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
    inception_statistics: Path | None = None
    """With --inception: compare with these statistics of real images, a .npz with mu and sigma, as
    an FID's standard protocol asks for, and not with the bundle's real images. It then has no
    precision or recall."""
    shuffle_features: bool = False
    """Also evaluate the learned policies with the features shuffled among the samples of a batch.
    What they lose is at most what they gained by adapting: another sample's choice may be worse
    than one that is the same for all."""
    metrics: bool = False
    """Also precision, recall, density, coverage and kernel distance, against the bundle's real
    images, of samples, reconstructions and real images; and a table of these and of the score."""
    kept_rows: bool = False
    """Of a policy whose file is gone, take the rows that results.json has under its name; of the
    others those that it has in another dtype, too, as from another machine."""
    pictures: bool = True
    """Draw sample grids, the quantities per step, and samples step by step."""
    progress: Annotated[bool, tyro.conf.Suppress] = True

    def __post_init__(self) -> None:
        """Check what nothing else checks in time.

        Raises:
            ValueError: no policy, no seed, no thread, or a number out of its range, or statistics
                for a judge that is not asked for.
        """
        super().__post_init__()
        if self.inception_statistics is not None and self.inception is None:
            raise ValueError(
                f"inception_statistics: got {self.inception_statistics}, allowed is a file only "
                "with inception, the weights' file"
            )
        for name in ("policies", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name}: got none, allowed is at least one")
        for seed in self.seeds:
            check_numbers(self.num_samples, seed, self.batch_size)


def run(arguments: Arguments) -> tuple[str, list[Path]]:
    """Evaluate what is missing, and draw.

    Returns:
        The Markdown table of the policies and seeds asked for, and the pictures' paths.

    Raises:
        ValueError: an unknown bundle or policy, a policy of another T or bundle, a number that is
            not allowed, a folder that cannot be written, or kept rows that are not there.
        ImportError: the second judge's packages are not installed.
    """
    every_cell = cells(arguments)
    for cell in every_cell:
        cell.check()
    first = every_cell[0]
    bundle, results = first.bundle, first.results
    rows = [row for cell in every_cell for row in cell.rows()]
    limits = [row for judged in first.judges for row in _floors(arguments, bundle, results, judged)]

    table = markdown_table(rows, limits)
    if arguments.metrics:
        table += f"\n\n{metrics_table(rows, limits)}"
    if adaptation := adaptation_table(rows):
        table += f"\n\n{adaptation}"
    write_text(arguments.out / TABLE, table + "\n")
    pictures = []
    if arguments.pictures:
        shown = [c for c in every_cell if c.seed == first.seed and not c.contestant.shuffled]
        there = {c.contestant.name: p for c in shown if (p := c.policy) is not None}
        specs = {c.contestant.name: c.contestant.spec for c in shown if c.policy is not None}
        album = Album(arguments.out, bundle, arguments.num_steps, first.seed, list(there))
        if there:
            pictures += draw_policies(album, there, rows)
        pictures += draw_trainings(album, specs)
        if arguments.metrics:
            pictures += draw_precision_recall(album, rows)
    return table, pictures


def cells(arguments: Arguments) -> list[Cell]:
    """All policies with all seeds, before anything is computed.

    Raises:
        ValueError: see `run`.
        ImportError: see `run`.
    """
    seeds = tuple(dict.fromkeys(arguments.seeds))
    every = [for_seed(split_name(s)[1], seed) for s in arguments.policies for seed in seeds]
    left = [spec for spec in every if not (arguments.kept_rows and is_gone(spec))]
    bundle = load_bundle(chosen_bundle(left, arguments.bundle), arguments.dtype, arguments.device)
    contestants = named_contestants(
        arguments.policies, seeds, bundle, arguments.num_steps, arguments.kept_rows
    )
    learned = [contestant for contestant in contestants if contestant.is_learned]
    if arguments.shuffle_features and not learned:
        raise ValueError("shuffle_features: allowed with a run folder among the policies, got none")
    require_writable_folder(arguments.out)
    results = Results(arguments.out / RESULTS)
    judges = references(arguments, bundle)

    shuffled = [
        replace(c, name=f"{c.name}, features shuffled", shuffled=True)
        for c in learned
        if arguments.shuffle_features
    ]
    return [
        Cell(
            bundle,
            contestant,
            arguments.num_steps,
            arguments.num_samples,
            seed,
            judges,
            results,
            arguments.batch_size,
            arguments.progress,
            arguments.kept_rows,
        )
        for contestant in contestants + shuffled
        for seed in seeds
    ]


def kept_rows(arguments: Arguments) -> list[Row]:
    """The rows that `out` has of what is asked for.

    Raises:
        ValueError: see `run`.
        ImportError: see `run`.
    """
    return [row for cell in cells(arguments) for row in cell.kept()]


def references(arguments: Arguments, bundle: Bundle) -> list[Reference]:
    """The judges asked for, and what they compare samples with.

    Raises:
        ValueError: too few samples for a judge, or features or statistics that do not fit.
        ImportError: the second judge's packages are not installed.
    """
    judges = [bundle_judge(bundle)]
    if arguments.second_judge:
        resolution = arguments.second_judge_resolution
        judges.append(efficientnet_lite0(resolution, device=arguments.device))
    from_file: list[Reference] = []
    if arguments.inception is not None:
        inception = inception_v3(arguments.inception, device=arguments.device)
        if arguments.inception_statistics is None:
            judges.append(inception)
        else:
            from_file = [reference_from_file(bundle, inception, arguments.inception_statistics)]
    for judge in judges:  # before the real images are shown to it, which takes long
        check_samples(judge.name, feature_count(bundle, judge), arguments.num_samples)
    cache = arguments.out / CACHE
    found = [
        reference(bundle, judge, cache, arguments.progress, arguments.metrics) for judge in judges
    ] + from_file
    for judged in found:
        check_rank(judged.judge.name, judged.statistics, arguments.num_samples)
    return found


def _floors(arguments: Arguments, bundle: Bundle, results: Results, judged: Reference) -> list[Row]:
    identity = {
        "bundle": bundle.name,
        "bundle_fingerprint": bundle.fingerprint,
        "evaluation_samples": arguments.num_samples,
        "judge": judged.judge.name,
    }
    computed = [
        floor
        for wanted in (
            {"floor": "reconstruction", "reference": judged.description},
            {"floor": "real others"},
        )
        for floor in results.find_floors(identity | wanted)
        if complete(floor, judged)
    ]
    if len(computed) < 2:  # none, or those of a release that measured less
        cache = arguments.out / CACHE
        new = floors(bundle, [judged], arguments.num_samples, arguments.progress, cache)
        results.add_floors(new)
    return results.find_floors(identity)


def main() -> None:
    """Entry point."""
    try:
        arguments = parse(Arguments, "nat-eval")
        torch.set_num_threads(arguments.threads)
        table, pictures = run(arguments)
    except (ValueError, ImportError) as error:
        raise SystemExit(f"nat-eval: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("nat-eval: interrupted; the same command goes on") from None
    print("", table, "", *pictures, arguments.out / RESULTS, sep="\n")


if __name__ == "__main__":
    main()
