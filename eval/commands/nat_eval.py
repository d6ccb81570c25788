"""Command nat-eval: the Frechet distances of decoding policies, with pictures."""

from dataclasses import replace
from pathlib import Path

from eval.commands.arguments import Eval
from eval.evaluation.cells import Cell
from eval.evaluation.floors import floors
from eval.evaluation.policies import (
    chosen_bundle,
    chosen_num_steps,
    for_seed,
    is_gone,
    named_contestants,
    split_name,
)
from eval.evaluation.rows import Results, Row, stamp
from eval.evaluation.tables import adaptation_table, markdown_table, metrics_table
from eval.judges.embedding import embedding_size, shared_cache
from eval.judges.inception import inception_v3
from eval.judges.judge import Judge, bundle_judge, efficientnet_lite0
from eval.judges.references import Reference, reference, reference_from_file
from eval.pictures.album import Album, draw_policies, draw_precision_recall, draw_trainings
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import check_rank, check_samples
from nat_env.bundles.loading import load_bundle
from nat_env.storage.files import require_writable_folder, write_text

RESULTS = "results.json"
TABLE = "table.md"


def run(arguments: Eval) -> tuple[str, list[Path]]:
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
        album = Album(arguments.out, bundle, first.num_steps, first.seed, list(there))
        if there:
            pictures += draw_policies(album, there, rows)
        pictures += draw_trainings(album, specs)
        if arguments.metrics:
            pictures += draw_precision_recall(album, rows)
    return table, pictures


def cells(arguments: Eval) -> list[Cell]:
    """All policies with all seeds, before anything is computed.

    Raises:
        ValueError: see `run`.
        ImportError: see `run`.
    """
    seeds = tuple(dict.fromkeys(arguments.seeds))
    every = [for_seed(split_name(s)[1], seed) for s in arguments.policies for seed in seeds]
    left = [spec for spec in every if not (arguments.kept_rows and is_gone(spec))]
    bundle = load_bundle(chosen_bundle(left, arguments.bundle), arguments.dtype, arguments.device)
    num_steps = chosen_num_steps(left, arguments.num_steps)
    contestants = named_contestants(
        arguments.policies, seeds, bundle, num_steps, arguments.kept_rows
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
            num_steps,
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


def kept_rows(arguments: Eval) -> list[Row]:
    """The rows that `out` has of what is asked for.

    Raises:
        ValueError: see `run`.
        ImportError: see `run`.
    """
    return [row for cell in cells(arguments) for row in cell.kept()]


def references(arguments: Eval, bundle: Bundle) -> list[Reference]:
    """The judges asked for, and what they compare samples with.

    Raises:
        ValueError: too few samples for a judge, or features or statistics that do not fit.
        ImportError: the second judge's packages are not installed.
    """
    judges: list[tuple[Judge, int | None]] = [(bundle_judge(bundle), None)]
    if arguments.second_judge:
        judges.append((_second_judge(arguments, bundle), arguments.second_judge_images))
    from_file: list[Reference] = []
    if arguments.inception is not None:
        inception = inception_v3(arguments.inception, device=arguments.device)
        if arguments.inception_statistics is None:
            judges.append((inception, None))
        else:
            from_file = [reference_from_file(bundle, inception, arguments.inception_statistics)]
    for judge, _ in judges:  # before the real images are shown to it, which takes long
        check_samples(judge.name, embedding_size(bundle, judge), arguments.num_samples)
    found = [
        reference(
            bundle,
            judge,
            shared_cache(),
            arguments.progress,
            arguments.metrics,
            num_real,
        )
        for judge, num_real in judges
    ] + from_file
    for judged in found:
        check_rank(judged.judge.name, judged.statistics, arguments.num_samples)
    return found


def _second_judge(arguments: Eval, bundle: Bundle) -> Judge:
    """Checked with the way out in the messages: it is there without being asked for.

    Raises:
        ValueError: too few samples, or real images, for its embeddings.
        ImportError: its packages are not installed.
    """
    way_out = "or leave the second judge out by --no-second-judge"
    try:
        judge = efficientnet_lite0(arguments.second_judge_resolution, device=arguments.device)
    except ImportError as error:
        raise ImportError(f"{error}; {way_out}") from error
    size = embedding_size(bundle, judge)
    for name, count in (
        ("num_samples", arguments.num_samples),
        ("second_judge_images", arguments.second_judge_images),
        ("bundle's real images", len(bundle.require("reals").conditions)),
    ):
        if count <= size:
            raise ValueError(
                f"{name}: got {count}, allowed is > {size}, the numbers in an embedding by the "
                f"judge {judge.name}; take more, {way_out}"
            )
    return judge


def _floors(arguments: Eval, bundle: Bundle, results: Results, judged: Reference) -> list[Row]:
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
        if "draws" in floor and ("precision" in floor or judged.embeddings is None)
    ]
    if len(computed) < 2:  # none, or those of a release that measured less
        new = floors(bundle, [judged], arguments.num_samples, arguments.progress, shared_cache())
        results.add_floors([floor | stamp() for floor in new])
    return results.find_floors(identity)


def command(arguments: Eval) -> None:
    """Evaluate, and show the table."""
    table, pictures = run(arguments)
    print("", table, "", *pictures, arguments.out / RESULTS, sep="\n")
