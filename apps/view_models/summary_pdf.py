"""One page of a run as PDF: verdict, figures, warnings. For a file or a mail, beside the whole report in HTML."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from medidistill import __version__

__all__ = ["summary_pdf"]

_A4 = (8.27, 11.69)  # inches
_LEFT, _TOP, _LINE, _BOTTOM = 0.09, 0.94, 0.0165, 0.06
_COLOURS = {"green": "#1b6e3c", "amber": "#8a5a00", "red": "#a3211b"}
_WIDTH = 100  # letters of a line


def summary_pdf(
    title: str, verdict: tuple[str, str], table: pd.DataFrame, warnings: Sequence[str], notes: Sequence[str] = ()
) -> bytes:
    """Return one page of A4.

    Args:
        title: of the run.
        verdict: (colour, sentence) on the delivered set; empty where there is none.
        table: what networks reach, one row an arm.
        warnings: that must stand beside the figures.
        notes: what the figures rest on; those that do not fit are counted.
    """
    page = Figure(figsize=_A4)
    writer = _Writer(page)
    writer.line(title, size=15, weight="bold")
    writer.line("Research use, not for diagnosis.", color="#8a5a00")
    writer.gap()
    colour, sentence = verdict
    if sentence:
        writer.line("May one train on the distilled set instead of the X-rays?", weight="bold", size=11)
        writer.text(sentence, color=_COLOURS.get(colour, "#222222"))
        writer.gap()
    writer.line("What fresh networks reach on unseen patients", weight="bold", size=11)
    for row in _rows(table):
        writer.line(row, family="monospace", size=7)
    writer.gap()
    for heading, lines in (("Warnings", warnings), ("What these figures rest on", notes)):
        if lines:
            writer.line(heading, weight="bold", size=11)
            for line in lines:
                writer.text(f"- {line}")
            writer.gap()
    page.text(_LEFT, _BOTTOM / 2, f"medidistill {__version__}", fontsize=7, color="#666666")
    data = io.BytesIO()
    with PdfPages(
        data, metadata={"Title": title, "Creator": f"medidistill {__version__}", "CreationDate": None}
    ) as file:
        file.savefig(page)
    return data.getvalue()


def _rows(table: pd.DataFrame) -> list[str]:
    cells = [list(map(str, table.columns)), *[[str(value) for value in row] for row in table.to_numpy().tolist()]]
    widths = [max(len(row[place]) for row in cells) for place in range(len(table.columns))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in cells]


class _Writer:
    """Writes lines from top to bottom, and none below the page."""

    def __init__(self, page: Figure) -> None:
        self._page = page
        self._at = _TOP

    def line(self, text: str, **style: Any) -> None:
        size = float(style.pop("size", 9))
        if self._at < _BOTTOM:
            return
        self._page.text(_LEFT, self._at, text, fontsize=size, va="top", parse_math=False, **style)
        self._at -= _LINE * max(1.0, size / 9)

    def text(self, text: str, **style: Any) -> None:
        for line in textwrap.wrap(text, _WIDTH, subsequent_indent="  "):
            self.line(line, **style)

    def gap(self) -> None:
        self._at -= _LINE / 2
