"""Text for people and for spreadsheets: intervals, Markdown tables, CSV. One writer of each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

__all__ = ["CsvRow", "Limits", "csv_text", "interval_text", "markdown_cell", "markdown_table"]


CsvRow: TypeAlias = dict[str, str | float | None]
"""One line of a table: column -> cell."""


class Limits(Protocol):
    """An estimate with its limits."""

    @property
    def estimate(self) -> float:
        """The estimate."""

    @property
    def low(self) -> float:
        """The lower limit."""

    @property
    def high(self) -> float:
        """The upper limit."""


def interval_text(value: Limits, digits: int = 3, sign: str = "") -> str:
    """Return an interval as text.

    Args:
        value: the estimate and its limits.
        digits: after the point.
        sign: `+` shows the sign of positive numbers too.

    Example:
        >>> from medidistill.evaluate.intervals import Interval
        >>> interval_text(Interval(0.5, 0.25, 0.75), 2)
        '0.50 [0.25, 0.75]'
    """
    estimate, low, high = (f"{one:{sign}.{digits}f}" for one in (value.estimate, value.low, value.high))
    return f"{estimate} [{low}, {high}]"


def markdown_cell(text: str) -> str:
    """Return `text` for one cell of a Markdown table: on one line, without a bar that would end the cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; cells are escaped.

    Args:
        head: names of the columns.
        rows: as many cells each.
    """
    lines = [[markdown_cell(cell) for cell in line] for line in (head, *rows)]
    return ["| " + " | ".join(line) + " |" for line in (lines[0], ["---"] * len(head), *lines[1:])]


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, str | float | None]]) -> str:
    """Return a CSV table; what a row lacks stays empty. Raises `ValueError` for a key that is no column."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="raise", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
