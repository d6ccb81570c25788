"""Policies compared: from models to a table, rows and pictures in one call."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from agents.sharing.names import chosen_num_steps, named_policy
from eval.evaluation.cells import Cell
from eval.evaluation.fingerprint import prompts_of, version_of
from eval.evaluation.floors import floors
from eval.evaluation.measure import check_numbers
from eval.evaluation.policies import Contestant, for_seed
from eval.evaluation.prompt_tables import agreement_table, alignment_table
from eval.evaluation.rows import Results, Row, has_distance, stamp
from eval.evaluation.tables import adaptation_table, markdown_table, metrics_table
from eval.judges.embedding import shared_cache
from eval.judges.judge import Judge, bundle_judge
from eval.judges.names import JUDGES, JudgeName
from eval.judges.references import NUM_REAL, Reference, independent_judges, reference
from eval.pictures.album import Album, draw_policies, draw_precision_recall, draw_trainings
from eval.pictures.distances import save_distances
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import check_rank
from nat_env.bundles.loading import load_bundle
from nat_env.policies import DecodingPolicy, ScheduledPolicy
from nat_env.schedules import Schedule, check_length
from nat_env.storage.files import require_writable_folder, write_text

RESULTS = "results.json"
TABLE = "table.md"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was found of some policies; printed, or as a notebook's last line, it is its table."""

    table: str = field(repr=False)
    """Markdown: distances under each judge, and the floors."""
    rows: Sequence[Row] = field(repr=False)
    """One for each policy, seed and judge."""
    floors: Sequence[Row] = field(repr=False)
    """What real images reach, see `eval.evaluation.floors`."""
    pictures: Mapping[str, Image.Image] = field(default_factory=dict)
    """By name: `distances`, `samples` of each policy beside the first, `quantities`, `steps`."""
    files: Sequence[Path] = ()
    """What was written, where a folder was given."""

    def __str__(self) -> str:
        """The table."""
        return self.table

    def _repr_markdown_(self) -> str:
        return self.table


def evaluate(
    bundle: Bundle | str | Path,
    policies: Mapping[str, DecodingPolicy | Schedule | str | Path],
    num_steps: int | None = None,
    num_samples: int = 2000,
    seeds: Sequence[int] = (0,),
    judges: Sequence[JudgeName | Judge | Reference] = JUDGES,
    out: Path | str | None = None,
    pictures: bool = True,
    batch_size: int | None = None,
    progress: bool = False,
) -> Evaluation:
    """Compare decoding policies by their samples' Frechet distances to real images.

    All are given the same random numbers; the first is what the others are compared with.

    Args:
        bundle: the frozen models, or the name or folder of a bundle.
        policies: by the name to print: a policy, a schedule, or what a command takes for one, see
            `named_policy`, with `{seed}` for the seed.
        num_steps: T; by default that of the policies, and 4 where these are for any.
        num_samples: N, more than a judge's embedding has numbers. A distance falls as N grows.
        seeds: one evaluation each.
        judges: beside the bundle's own, of any of these kinds. A name is left out where the bundle
            has no real images; EfficientNet-Lite0, which no part of a bundle was trained with, has
            1280 numbers, and takes a minute or more for a bundle that it has not seen.
        out: a folder for results.json, table.md and pictures, where rows that are there already
            are not computed again; None for none.
        pictures: draw.
        batch_size: samples decoded at once; by default as `generate` has it.
        progress: show bars.

    Raises:
        ValueError: no policies or seeds, a number out of its range, a policy of another T or
            bundle, a folder that cannot be written, or too few samples or real images for a judge.
        ImportError: a judge's packages are not installed.
    """
    if not policies or not seeds:
        raise ValueError(
            f"policies and seeds: got {list(policies)} and {list(seeds)}, allowed is at least one"
        )
    seeds = tuple(dict.fromkeys(seeds))
    for seed in seeds:
        check_numbers(num_samples, seed, batch_size)
    if not isinstance(bundle, Bundle):
        bundle = load_bundle(bundle)
    num_steps = _num_steps(policies, num_steps)
    contestants = [
        _contestant(name, policy, seeds, bundle, num_steps) for name, policy in policies.items()
    ]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()) if out is None else out)
        require_writable_folder(folder)
        results = Results(folder / RESULTS)
        referred = _references(bundle, judges, num_samples, progress)
        for judged in referred:
            check_rank(judged.judge.name, judged.statistics, num_samples)
        cells = [
            Cell(bundle, contestant, num_steps, num_samples, seed, referred, results, batch_size,
                 progress)
            for contestant in contestants
            for seed in seeds
        ]  # fmt: skip
        return compare(cells, folder, pictures=pictures, kept=out is not None)


def compare(
    cells: Sequence[Cell],
    out: Path,
    pictures: bool = True,
    metrics: bool = False,
    kept: bool = True,
) -> Evaluation:
    """Compute what is missing of some lines of a table, and write and draw it.

    Args:
        cells: at least one, all of one bundle, T and N, with the same judges and results.
        out: a folder for table.md and pictures.
        pictures: draw.
        metrics: have a table and a picture of precision, recall and their kin, too.
        kept: whether the folder outlives this call.
    """
    first = cells[0]
    rows = [row for cell in cells for row in cell.rows()]
    limits = [r for j in first.judges if len(j.images) for r in _floors(first, j)]
    first.results.gather()
    table = tables(rows, limits, metrics)
    drawn = _draw(cells, rows, limits, out, metrics) if pictures else []
    write_text(out / TABLE, table + "\n")
    return Evaluation(
        table,
        rows,
        limits,
        {path.stem: _loaded(path) for path in drawn},
        [*drawn, out / TABLE, first.results.path] if kept else [],
    )


def tables(rows: Sequence[Row], limits: Sequence[Row] = (), metrics: bool = False) -> str:
    """All that is tabled of rows of one bundle, T and N.

    Args:
        rows: of policies.
        limits: floors of the same bundle and N.
        metrics: have a table of precision, recall and their kin, too.
    """
    distances = [row for row in rows if has_distance(row)]
    found = [markdown_table(distances, limits)] if distances else []
    if metrics:
        found.append(metrics_table(distances, limits))
    prompts = [agreement_table(rows), alignment_table(rows, limits)]
    found += filter(None, [*prompts, adaptation_table(rows)])
    return "\n\n".join(found)


def _draw(
    cells: Sequence[Cell], rows: Sequence[Row], limits: Sequence[Row], out: Path, metrics: bool
) -> list[Path]:
    first = cells[0]
    shown = [c for c in cells if c.seed == first.seed and not c.contestant.shuffled]
    there = {c.contestant.name: policy for c in shown if (policy := c.policy) is not None}
    album = Album(out, first.bundle, first.num_steps, first.seed, list(there))
    paths: list[Path] = []
    if distances := [row for row in rows if has_distance(row)]:
        paths.append(album.path("distances"))
        save_distances(paths[0], distances, limits, first.bundle.name)
    if there:
        paths += draw_policies(album, there, rows)
    specs = {c.contestant.name: c.contestant.spec for c in shown if c.policy and c.contestant.spec}
    paths += draw_trainings(album, specs)
    if metrics and any("precision" in row for row in rows):
        paths += draw_precision_recall(album, rows)
    return paths


def _floors(cell: Cell, judged: Reference) -> list[Row]:
    """Those of a judge, computed where they are missing."""
    bundle, results = cell.bundle, cell.results
    identity = {
        "bundle": bundle.name,
        "bundle_fingerprint": bundle.fingerprint,
        "evaluation_samples": cell.num_samples,
        "judge": judged.judge.name,
    }
    of_decoder = {"decoder_dtype": bundle.decoder_dtype}
    identity |= prompts_of(bundle.conditions) | of_decoder | version_of(judged.judge)
    computed = [
        floor
        for wanted in (
            {"floor": "reconstruction", "reference": judged.description},
            {"floor": "real others"},
        )
        for floor in results.find_floors(identity | wanted)
        if "draws" in floor
        and ("precision" in floor or judged.embeddings is None)
        and ("alignment" in floor or bundle.aligner is None)
    ]
    if len(computed) < 2:  # none, or those of a release that measured less
        cache = _cache(bundle, judged.judge)
        new = floors(bundle, [judged], cell.num_samples, cell.progress, cache)
        results.add_floors(
            [floor | of_decoder | version_of(judged.judge) | stamp() for floor in new]
        )
    return results.find_floors(identity)


def _references(
    bundle: Bundle,
    judges: Sequence[JudgeName | Judge | Reference],
    num_samples: int,
    progress: bool,
) -> list[Reference]:
    """The bundle's own, where it is not among those given, and these."""
    given: list[Judge | Reference] = []
    once: dict[str | int, JudgeName | Judge | Reference]
    once = {judge if isinstance(judge, str) else id(judge): judge for judge in judges}
    for judge in once.values():
        named = isinstance(judge, str)
        given += independent_judges(bundle, [judge], num_samples) if named else [judge]
    names = [judge.judge.name if isinstance(judge, Reference) else judge.name for judge in given]
    if bundle.judge_name not in names and (bundle.yardstick is not None or not given):
        given.insert(0, bundle_judge(bundle))
    return [
        judge if isinstance(judge, Reference) else _reference(bundle, judge, progress)
        for judge in given
    ]


def _reference(bundle: Bundle, judge: Judge, progress: bool) -> Reference:
    num_real = None if judge.name == bundle.judge_name else NUM_REAL
    return reference(bundle, judge, _cache(bundle, judge), progress, num_real=num_real)


def _cache(bundle: Bundle, judge: Judge) -> Path | None:
    """None for a judge or bundle of one's own, whose name may stand for another one tomorrow."""
    return shared_cache() if judge.is_fixed and bundle.is_stored else None


def _num_steps(policies: Mapping[str, Any], given: int | None) -> int:
    """See `chosen_num_steps`.

    Raises:
        ValueError: policies of several T, or of another than the one given.
    """
    own = {
        name: found
        for name, policy in policies.items()
        if not isinstance(policy, str | Path)
        and (found := getattr(policy, "num_steps", None)) is not None
    }
    specs = [str(policy) for policy in policies.values() if isinstance(policy, str | Path)]
    if given is not None and given < 1:
        raise ValueError(f"num_steps: got {given}, allowed are integers >= 1")
    chosen = given or next(iter(own.values()), None) or chosen_num_steps(specs, None)
    for name, found in own.items():
        check_length("policies", name, found, chosen)
    return chosen


def _contestant(
    name: str, policy: Any, seeds: Sequence[int], bundle: Bundle, num_steps: int
) -> Contestant:
    if isinstance(policy, str | Path):
        spec = str(policy)
        by_seed = {s: named_policy(for_seed(spec, s), bundle, num_steps)[1] for s in seeds}
        return Contestant(name, spec, by_seed)
    if isinstance(policy, Schedule):
        policy = ScheduledPolicy(policy)
    return Contestant(name, None, dict.fromkeys(seeds, policy))


def _loaded(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.copy()
