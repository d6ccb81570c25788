"""Measurements as sections of rows: Markdown for people, json for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eval.bench.timing import Spread

Row = dict[str, Any]
"""Texts, numbers and `Spread`s by column; `_share` at a name's end: a part of one."""


@dataclass(frozen=True)
class Section:
    """A table with a title and a note on how it was measured."""

    title: str
    rows: Sequence[Row]
    note: str = ""

    def markdown(self) -> str:
        """Title, table and note; a number that was repeated as `median (min .. max)`.

        Example:
            >>> rows = [
            ...     {"name": "a", "images_per_second": Spread(12, 9.5, 1300)},
            ...     {"name": "b", "nat_share": 0.5},
            ... ]
            >>> print(Section("Speed", rows).markdown())
            ### Speed
            <BLANKLINE>
            | name | images per second | nat |
            | --- | ---: | ---: |
            | a | 12 (9.5 .. 1300) | |
            | b | | 50 % |
        """
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        texts = {c: any(isinstance(row.get(c), str) for row in self.rows) for c in columns}
        lines = [
            [c.removesuffix("_share").replace("_", " ") for c in columns],
            ["---" if texts[c] else "---:" for c in columns],
            *([_cell(c, row.get(c)) for c in columns] for row in self.rows),
        ]
        table = ["|" + "|".join(f" {x} " if x else " " for x in line) + "|" for line in lines]
        note = ["", self.note] if self.note else []
        return "\n".join([f"### {self.title}", "", *table, *note])

    def as_json(self) -> Row:
        """All of it as plain values."""
        return asdict(self)


def _cell(column: str, value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Spread):
        both = f"{_number(value.low)} .. {_number(value.high)}"
        return f"{_number(value.median)} ({both})"
    return f"{value:.0%}".replace("%", " %") if column.endswith("_share") else _number(value)


def _number(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
