"""Measurements as sections of rows: Markdown for people, json for programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.benchmark import Measurement

from eval.evaluation.tables import markdown_line

Row = dict[str, Any]
"""Texts, numbers and `Measurement`s by column; `_share` at a name's end: a part of one."""


@dataclass(frozen=True)
class Section:
    """A table with a title, a note on how it was measured, and what its numbers are held against.

    Example:
        >>> rows = [{"name": "a", "images_per_second": 1234.5}, {"name": "b", "nat_share": 0.5}]
        >>> print(Section("Speed", rows).markdown())
        ### Speed
        <BLANKLINE>
        | name | images per second | nat |
        | --- | ---: | ---: |
        | a | 1234 | |
        | b | | 50 % |
    """

    title: str
    rows: Sequence[Row]
    note: str = ""
    targets: Sequence[Row] = ()
    """See `target`."""

    def markdown(self) -> str:
        """Title, table and note; what was measured as median and interquartile range."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        texts = {c: any(isinstance(row.get(c), str) for row in self.rows) for c in columns}
        lines = [
            [c.removesuffix("_share").replace("_", " ") for c in columns],
            ["---" if texts[c] else "---:" for c in columns],
            *([_cell(c, row.get(c)) for c in columns] for row in self.rows),
        ]
        note = ["", self.note] if self.note else []
        return "\n".join([f"### {self.title}", "", *map(markdown_line, lines), *note])

    def as_json(self) -> Row:
        """All of it as plain values."""
        rows = [{name: _plain(value) for name, value in row.items()} for row in self.rows]
        return {"title": self.title, "rows": rows, "note": self.note}


def target(what: str, measured: float, *, at_least: float = 0.0, at_most: float = 0.0) -> Row:
    """One limit, and whether what was measured keeps it.

    Example:
        >>> target("times the authors' loop", 3.5, at_least=5)["verdict"]
        '**NOT reached**'
    """
    reached = measured >= at_least if at_least else measured <= at_most
    return {
        "target": what,
        "goal": f">= {at_least:g}" if at_least else f"<= {at_most:g}",
        "measured": measured,
        "verdict": "reached" if reached else "**NOT reached**",
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Measurement):
        return {"median": value.median, "iqr": value.iqr, "times": value.times}
    return value


def _cell(column: str, value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Measurement):
        return f"{_number(value.median)} ± {_number(value.iqr)}"
    return f"{value:.0%}".replace("%", " %") if column.endswith("_share") else _number(value)


def _number(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
