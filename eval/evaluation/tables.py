"""Rows of evaluations as Markdown tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.evaluation.floors import FLOORS
from eval.evaluation.rows import Row
from nat_env.decoding.quantities import COLUMNS

_LEAST_STD = 0.0005
"""Less prints as none."""

_SYMBOLS = dict(zip(COLUMNS, ("m", "tau1", "tau2", "w"), strict=True))


def markdown_table(rows: Sequence[Row], floors: Sequence[Row] = ()) -> str:
    """Mean and sample standard deviation over seeds of each policy, T, N and judge.

    `change` is relative to the first policy of the same T, N and judge.

    Args:
        rows: of one bundle.
        floors: of the same bundle, see `eval.evaluation.floors`.

    Raises:
        ValueError: rows of several bundles, whose distances do not compare.

    Example:
        >>> about = {"bundle": "b", "num_steps": 4, "num_samples": 9, "judge": "b-judge"}
        >>> about |= {"passes": 4, "class_accuracy": 0.5, "seconds": 3.0, "images_per_second": 3.0}
        >>> old = about | {"policy": "old", "seed": 0, "frechet_distance": 4.0}
        >>> new = [
        ...     about | {"policy": "new", "seed": s, "frechet_distance": 1.0 + s} for s in (0, 1)
        ... ]
        >>> print(markdown_table([old, *new]).splitlines()[2])
        | old | 4 | 4.00 | b-judge, N = 9 | 4.00 | | 1 | 50.0 % | 3.0 | 3 |
        >>> print(markdown_table([old, *new]).splitlines()[3])
        | new | 4 | 4.00 | b-judge, N = 9 | 1.50 ± 0.71 | -62 % | 2 | 50.0 % | 3.0 | 3 |
    """
    bundles = {row["bundle"] for row in rows}
    if len(bundles) > 1:
        raise ValueError(f"rows: allowed are those of one bundle, got {sorted(bundles)}")
    lines = [
        "| policy | T | passes | judge | FD | change | seeds | class accuracy | seconds "
        "| images/s |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    first: dict[tuple[Any, ...], float] = {}
    for (setting, policy), group in grouped(rows).items():
        judge, num_samples, num_steps = setting
        distances = [row["frechet_distance"] for row in group]
        mean = float(np.mean(distances))
        change = f"{round(100 * (mean / first[setting] - 1)):+d} %" if first.get(setting) else ""
        first.setdefault(setting, mean)
        cells = [
            policy,
            str(num_steps),
            f"{np.mean([row.get('passes', num_steps) for row in group]):.2f}",
            f"{judge}, N = {num_samples}",
            mean_and_spread(distances),
            change,
            str(len(group)),
            _accuracy(group),
            f"{np.mean([row['seconds'] for row in group]):.1f}",
            f"{np.mean([row['images_per_second'] for row in group]):.0f}",
        ]
        lines.append(markdown_line(cells))
    for row in floors:
        if row["floor"] == "real":
            continue
        count = "" if row["num_samples"] is None else f", N = {row['num_samples']}"
        distance = f"{row['frechet_distance']:.2f}"
        if row.get("frechet_distance_std") is not None:
            distance += f" ± {row['frechet_distance_std']:.2f}"
        judge = f"{row['judge']}{count}"
        lines.append(markdown_line([FLOORS[row["floor"]], "", "", judge, distance, *[""] * 5]))
    references = dict.fromkeys(
        f"{row['judge']}, {row['reference']}" for row in rows if "reference" in row
    )
    note = (
        f"Bundle {', '.join(bundles)}. FD: lower is better, ± over seeds (floors: over draws). "
        "Passes: of the transformer, of an image. Seconds: of generating N images."
    )
    for row in floors:
        if row["floor"] == "real":
            note += f" Images held out of training: FD {row['frechet_distance']:.2f}"
            note += f" ({row['reference']})." if row["reference"] else "."
    for judge, policies in _judged_by_their_reward(rows).items():
        note += f" Not independent: {judge}, whose network or kin rewarded {', '.join(policies)}."
    if references:
        note += f" References: {'; '.join(references)}."
    return "\n".join([*lines, "", note])


def metrics_table(rows: Sequence[Row], floors: Sequence[Row] = ()) -> str:
    """Mean and spread over seeds of what `eval.metrics` says of each policy, T, N and judge.

    A cell is empty where a judge, or one of the seeds, has no such number.

    Args:
        rows: of one bundle; those without metrics are left out.
        floors: of the same bundle, what real images themselves reach; likewise.

    Example:
        >>> row = {"policy": "a", "num_steps": 4, "judge": "b-judge", "num_samples": 9}
        >>> row |= {"precision": 0.5, "recall": 0.25, "density": 0.5, "coverage": 1.0}
        >>> row |= {"kernel_distance": 0.002, "kernel_distance_error": 0.001, "num_real": 9}
        >>> print(metrics_table([row]).splitlines()[2])
        | a | 4 | b-judge, N = 9 | 0.500 | 0.250 | 0.500 | 1.000 | 2.00 ± 1.00 | |
        >>> print(metrics_table([row | {"score": 7.5, "score_std": 0.2}]).splitlines()[2])
        | a | 4 | b-judge, N = 9 | 0.500 | 0.250 | 0.500 | 1.000 | 2.00 ± 1.00 | 7.50 |
    """
    lines = [
        "| policy | T | judge | precision | recall | density | coverage | KD x 1000 | score |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    measured = [row for row in rows if _is_measured(row)]
    for ((judge, num_samples, num_steps), policy), group in grouped(measured).items():
        setting = f"{judge}, N = {num_samples}"
        lines.append(markdown_line([policy, str(num_steps), setting, *_metric_cells(group)]))
    for row in filter(_is_measured, floors):
        setting = f"{row['judge']}, N = {row['num_samples']}"
        lines.append(markdown_line([FLOORS[row["floor"]], "", setting, *_metric_cells([row])]))
    real = sorted({row["num_real"] for row in measured if "num_real" in row})
    note = (
        f"Against {', '.join(map(str, real)) or 'no'} real images. Precision, density: do samples "
        "look real. Recall, coverage: is all that is real among them. KD: kernel distance (KID's "
        "formula), lower is better, ± over seeds or its standard error. Score: the Inception "
        "Score's formula. Only lines of one N and judge compare."
    )
    return "\n".join([*lines, "", note])


def adaptation_table(rows: Sequence[Row]) -> str:
    """How much each quantity of a policy differs from sample to sample, and within classes.

    Args:
        rows: of one bundle; those of policies that are the same for all samples are left out, and
            those of releases that did not measure it.

    Returns:
        The table, or nothing where no policy adapts.

    Example:
        >>> actions = {name: {"std": [9.0, 0.3, 0.4]} for name in COLUMNS}
        >>> for stds in actions.values():
        ...     stds["std_within_classes"] = [0.0, 0.3, 0.0]
        >>> row = {"policy": "a", "num_steps": 3, "num_samples": 9, "judge": "b", "seed": 0}
        >>> print(adaptation_table([row | {"actions": actions}]).splitlines()[2])
        | a | 3 | 0.354, 36 % | 0.354, 36 % | 0.354, 36 % | 0.354, 36 % |
        >>> print(adaptation_table([row | {"actions": actions, "prompts": "1"}]).splitlines()[2])
        | a | 3 | 0.354 | 0.354 | 0.354 | 0.354 |
    """
    lines = []
    once = {(r["policy"], r["num_steps"], r["num_samples"], r["seed"]): r for r in rows}
    names = dict.fromkeys(name for row in rows for name in row["actions"])
    for ((_, _, num_steps), policy), group in grouped(
        [r | {"judge": ""} for r in once.values()]
    ).items():
        if not all("std_within_classes" in row["actions"][COLUMNS[0]] for row in group):
            continue
        cells = []
        for name in names:
            if name not in group[0]["actions"]:
                cells.append("")
                continue
            # Steps 2 to T: before the first token is drawn a policy knows nothing but the class.
            stds, within = (
                np.concatenate([row["actions"][name][of][1:] for row in group])
                for of in ("std", "std_within_classes")
            )
            variance = np.square(stds).mean() if stds.size else 0.0
            if variance > _LEAST_STD**2:
                share = f", {100 * np.square(within).mean() / variance:.0f} %"
                # Of a prompt there may be one sample, and nothing within it.
                cells.append(f"{np.sqrt(variance):.3f}{'' if 'prompts' in group[0] else share}")
            else:
                cells.append("")
        if any(cells):
            lines.append(markdown_line([policy, str(num_steps), *cells]))
    if not lines:
        return ""
    symbols = [str(_SYMBOLS.get(name, name)) for name in names]
    head = [markdown_line(["policy", "T", *symbols])]
    head.append(markdown_line(["---", *["---:"] * (1 + len(names))]))
    note = (
        "How the quantities of steps 2 to T differ among samples: standard deviation, and the "
        "share of the variance that lies within classes, where a policy adapts to the sample and "
        "not to its class alone."
    )
    return "\n".join([*head, *lines, "", note])


def provenance(rows: Sequence[Row]) -> str:
    """When, where, with which seeds, code and commands rows were computed.

    Example:
        >>> machine = {"processor": "x86_64", "cpu_count": 2, "torch_threads": 1, "torch": "2.9"}
        >>> row = {"machine": machine, "date": "2026-11-25T02:00:00", "seed": 0, "command": "a b"}
        >>> row |= {"dtype": "float32", "commit": "abc"}
        >>> print(provenance([row, row | {"seed": 1}]))
        Evaluated on 2026-11-25 with seeds 0, 1, commit abc.
        Machine: x86_64, 2 processors, 1 torch threads, torch 2.9; transformer in float32.
        Command: `a b`.
    """
    days = sorted({row["date"][:10] for row in rows})
    seeds = ", ".join(str(seed) for seed in sorted({row["seed"] for row in rows}))
    machines = dict.fromkeys(_machine_of(row) for row in rows)
    dtypes = ", ".join(sorted({row["dtype"] for row in rows if "dtype" in row}))
    commits = ", ".join(sorted({row["commit"] for row in rows if row.get("commit")}))
    commands = dict.fromkeys(f"`{row['command']}`" for row in rows)
    return "\n".join(
        [
            f"Evaluated on {' to '.join(dict.fromkeys([days[0], days[-1]]))} with seeds {seeds}"
            + (f", commit {commits}." if commits else "."),
            f"Machine: {'; '.join(machines)}" + (f"; transformer in {dtypes}." if dtypes else "."),
            f"Command: {'; '.join(commands)}.",
        ]
    )


def _machine_of(row: Row) -> str:
    machine = row["machine"]
    on = "{processor}, {cpu_count} processors, {torch_threads} torch threads, torch {torch}".format(
        **machine
    )
    device = row.get("device", "cpu")
    return on if device == "cpu" else f"{on}, on {device}: {machine.get('accelerator')}"


def grouped(rows: Sequence[Row]) -> dict[tuple[tuple[Any, ...], str], list[Row]]:
    """Rows by setting (judge, N, T) and policy; what is compared stands together."""
    settings: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for row in rows:
        setting = (row["judge"], row["num_samples"], row["num_steps"])
        settings.setdefault(setting, {}).setdefault(row["policy"], []).append(row)
    return {(s, policy): group for s, by in settings.items() for policy, group in by.items()}


def _judged_by_their_reward(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Policies by the judge whose network their reward came from."""
    found: dict[str, list[str]] = {}
    for row in rows:
        policies = found.setdefault(row["judge"], [])
        if row.get("judge_gave_reward") and row["policy"] not in policies:
            policies.append(row["policy"])
    return {judge: policies for judge, policies in found.items() if policies}


def _accuracy(group: Sequence[Row]) -> str:
    """Empty of a bundle without a judge."""
    shares = [row["class_accuracy"] for row in group]
    return "" if None in shares else f"{100 * np.mean(shares):.1f} %"


def _is_measured(row: Row) -> bool:
    return "precision" in row or "score" in row


def _metric_cells(group: Sequence[Row]) -> list[str]:
    """Precision, recall, density, coverage, KD, score of the seeds of one policy."""

    def cell(name: str, digits: int, scale: float = 1.0) -> str:
        if not all(name in row for row in group):
            return ""
        return mean_and_spread([scale * row[name] for row in group], digits)

    kernel = cell("kernel_distance", 2, 1000)
    if kernel and len(group) == 1:
        kernel += f" ± {1000 * group[0]['kernel_distance_error']:.2f}"
    shares = [cell(name, 3) for name in ("precision", "recall", "density", "coverage")]
    return [*shares, kernel, cell("score", 2)]


def mean_and_spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean, and sample standard deviation of several values.

    Example:
        >>> mean_and_spread([1.0, 2.0])
        '1.50 ± 0.71'
    """
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def markdown_line(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"
