"""Command nat-eval: the Frechet distances of decoding policies, with pictures."""

from dataclasses import replace
from pathlib import Path

from agents.sharing.names import chosen_bundle, chosen_num_steps, is_gone
from eval.commands.arguments import Eval
from eval.comparison import RESULTS, Evaluation, compare
from eval.evaluation.cells import Cell
from eval.evaluation.policies import for_seed, named_contestants, split_name
from eval.evaluation.rows import Results, Row
from eval.judges.clip import Agreement, clip_agreement
from eval.judges.embedding import embedding_size, shared_cache
from eval.judges.inception import inception_v3
from eval.judges.judge import Judge, bundle_judge
from eval.judges.references import (
    Reference,
    independent_judges,
    reference,
    reference_from_file,
)
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import check_rank, check_samples
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.prompted import with_prompts_of
from nat_env.parallel.launch import started
from nat_env.parallel.processes import ALONE, Processes
from nat_env.storage.files import check_writable_folder, require_writable_folder


def run(arguments: Eval) -> tuple[str, list[Path]]:
    """Evaluate what is missing, and draw.

    Returns:
        The Markdown table of the policies and seeds asked for, and the pictures' paths.

    Raises:
        ValueError: an unknown bundle or policy, a policy of another T or bundle, a number that is
            not allowed, a folder that cannot be written, or kept rows that are not there.
        ImportError: a judge's packages are not installed.
    """
    found = _evaluation(arguments, ALONE)
    assert found is not None
    return found.table, [path for path in found.files if path.suffix == ".png"]


def _evaluation(arguments: Eval, processes: Processes) -> Evaluation | None:
    """What the main process found; None in the others, which have helped to decode."""
    with processes.main_first():
        every_cell = cells(arguments, processes)
        for cell in every_cell:
            cell.check()
        require_writable_folder(arguments.out)  # only now has all been accepted
    if not processes.is_main:
        for cell in every_cell:
            cell.rows()
        return None
    metrics = arguments.metrics or arguments.inception is not None  # whose score is asked for
    return compare(every_cell, arguments.out, arguments.pictures, metrics)


def cells(arguments: Eval, processes: Processes = ALONE, shard: str = "") -> list[Cell]:
    """All policies with all seeds, before anything is computed.

    Args:
        arguments: of the evaluation.
        processes: that share the decoding; by default this one does it all.
        shard: of the study that it is part of, see `Results`.

    Raises:
        ValueError: see `run`.
        ImportError: see `run`.
    """
    seeds = tuple(dict.fromkeys(arguments.seeds))
    every = [for_seed(split_name(s)[1], seed) for s in arguments.policies for seed in seeds]
    left = [spec for spec in every if not (arguments.kept_rows and is_gone(spec))]
    bundle = load_bundle(chosen_bundle(left, arguments.bundle), **arguments.models())
    bundle = with_prompts_of(bundle, arguments.prompts)
    num_steps = chosen_num_steps(left, arguments.num_steps)
    contestants = named_contestants(
        arguments.policies, seeds, bundle, num_steps, arguments.kept_rows
    )
    learned = [contestant for contestant in contestants if contestant.is_learned]
    if arguments.shuffle_features and not learned:
        raise ValueError("shuffle_features: allowed with a run folder among the policies, got none")
    check_writable_folder(arguments.out)
    results = Results(arguments.out / RESULTS, shard)
    judges, agreements = references(arguments, bundle), _agreements(arguments, bundle)

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
            arguments.conditions == "uniform",
            agreements,
            arguments.kept_rows,
            processes,
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
        ImportError: a judge's packages are not installed.
    """
    judges: list[tuple[Judge, int | None]] = []
    elsewhere = arguments.clip is not None or arguments.inception_statistics is not None
    if bundle.yardstick is not None or not elsewhere:
        judges.append((bundle_judge(bundle), None))
    others = independent_judges(
        bundle,
        arguments.judges,
        arguments.num_samples,
        arguments.judge_images,
        arguments.judge_resolution,
    )
    judges += [(judge, arguments.judge_images) for judge in others]
    from_file: list[Reference] = []
    if arguments.inception is not None:
        inception = inception_v3(arguments.inception, device=arguments.device)
        if arguments.inception_statistics is None:
            if bundle.reals is None:
                raise ValueError(
                    f"inception_statistics: got none, and the bundle {bundle.name!r} has no real "
                    "images; allowed is a .npz with mu and sigma"
                )
            judges.append((inception, None))
        else:
            from_file = [reference_from_file(bundle, inception, arguments.inception_statistics)]
    for judge, num_real in judges:  # before the real images are shown to it, which takes long
        size = embedding_size(bundle, judge)
        check_samples(judge.name, size, arguments.num_samples)
        if judge.name != bundle.judge_name:
            there = len(bundle.require("reals").conditions)
            check_samples(judge.name, size, min(num_real or there, there), "real images")
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


def _agreements(arguments: Eval, bundle: Bundle) -> list[Agreement]:
    """How well images fit their prompts, if that is asked for."""
    if arguments.clip is None:
        return []
    return [clip_agreement(bundle, arguments.clip, arguments.clip_prompt)]


def command(arguments: Eval) -> None:
    """Evaluate, and show the table."""
    with started(arguments.device) as processes:
        found = _evaluation(replace(arguments, device=str(processes.device)), processes)
        if found is not None:
            print("", found, "", *found.files, sep="\n")
