"""How well images fit their prompts, as Markdown tables."""

from collections.abc import Sequence

from eval.evaluation.floors import FLOORS
from eval.evaluation.rows import Row
from eval.evaluation.tables import grouped, markdown_line, mean_and_spread
from eval.metrics.alignment import AMONG

_REAL = {"real others": "(real images)"} | {"reconstruction": FLOORS["reconstruction"]}
"""Floors, and what they are called where nothing is compared with others."""


def agreement_table(rows: Sequence[Row]) -> str:
    """Mean and spread over seeds of the CLIP score of each policy, T, N and judge, if there is any.

    Example:
        >>> row = {"policy": "a", "num_steps": 8, "judge": "clip@1", "num_samples": 9}
        >>> row |= {"clip_score": 0.29, "reference": "3 prompts"}
        >>> print(agreement_table([row]).splitlines()[2])
        | a | 8 | clip@1, N = 9 | 0.2900 | 3 prompts |
    """
    lines = []
    scored = [row for row in rows if "clip_score" in row]
    for ((judge, num_samples, num_steps), policy), group in grouped(scored).items():
        score = mean_and_spread([row["clip_score"] for row in group], 4)
        setting = f"{judge}, N = {num_samples}"
        lines.append(markdown_line([policy, str(num_steps), setting, score, group[0]["reference"]]))
    if not lines:
        return ""
    head = "| policy | T | judge | CLIP score | against |\n| --- | ---: | --- | ---: | --- |"
    note = "CLIP score: mean cosine of image and prompt, those below 0 as 0; higher is better."
    return "\n".join([head, *lines, "", note])


def alignment_table(rows: Sequence[Row], floors: Sequence[Row] = ()) -> str:
    """Mean and spread over seeds of the alignment score of each policy, T and N, if there is any.

    Args:
        rows: of one bundle.
        floors: of the same bundle, see `eval.evaluation.floors`.

    Example:
        >>> row = {"policy": "a", "num_steps": 8, "judge": "b-judge", "num_samples": 9, "seed": 0}
        >>> other = row | {"judge": "another"}  # the same samples
        >>> print(alignment_table([r | {"alignment": 0.75} for r in (row, other)]).splitlines()[2])
        | a | 8 | 9 | 75.0 % |
    """
    lines = []
    once = {
        (r["policy"], r["num_steps"], r["num_samples"], r["seed"]): r | {"judge": ""}
        for r in rows
        if "alignment" in r
    }
    for ((_, num_samples, num_steps), policy), group in grouped(list(once.values())).items():
        lines.append(markdown_line([policy, str(num_steps), str(num_samples), _percent(group)]))
    if not lines:
        return ""
    shown = {r["floor"]: r for r in floors if "alignment" in r}
    for name, row in shown.items():
        count = str(row["alignment_samples"])
        lines.append(markdown_line([_REAL[name], "", count, _percent([row])]))
    head = "| policy | T | N | alignment |\n| --- | ---: | ---: | ---: |"
    note = (
        "Alignment: share of the images whose own prompt, by the bundle's aligner, is nearest "
        f"among {AMONG} (or all, of fewer); higher is better, ± over seeds."
    )
    return "\n".join([head, *lines, "", note])


def _percent(group: Sequence[Row]) -> str:
    return mean_and_spread([100 * row["alignment"] for row in group], 1) + " %"
