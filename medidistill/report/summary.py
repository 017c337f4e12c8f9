"""The summary of a run on one page of A4, as PDF: the verdict, its figures, the warnings. Holds no image."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medidistill.report.data import ReportData
from medidistill.results.comparison import Comparison
from medidistill.results.verdict import Verdict
from medidistill.textio import interval_text
from medidistill.words import VERDICT_QUESTION, criteria_note, row_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Line", "summary_lines", "summary_pdf"]

_WIDTH, _HEIGHT, _MARGIN = 595.0, 842.0, 48.0  # A4 in points
_LEADING, _LETTER = 1.35, 0.57  # height of a line, and mean width of a letter, in font sizes
_COLOURS = {"green": "#1a7f37", "amber": "#b27b16", "red": "#cf222e"}
_OUTCOMES = {"met": "yes", "not met": "NO", "undetermined": "not settled"}
_SMALLEST = 0.55


@dataclass(frozen=True)
class Line:
    """A paragraph, or one row of a table.

    Args:
        cells: one text, or one a column.
        places: where each column begins, as a share of the line.
        size: of the letters, in points.
        bold: whether it is.
        colour: of the letters; empty for black.
        bar: colour of the bar at its left; empty for none.
        space: above it, in points.
    """

    cells: tuple[str, ...]
    places: tuple[float, ...] = (0.0,)
    size: float = 9.0
    bold: bool = False
    colour: str = ""
    bar: str = ""
    space: float = 2.0


def summary_lines(data: ReportData) -> list[Line]:
    """Return what stands on the page, from top to bottom."""
    lines = [
        Line((data.title,), size=17, bold=True),
        Line(("Research use. Not for diagnosis.",), colour=_COLOURS["amber"], bold=True),
        *([Line((data.notice,))] if data.notice else []),
    ]
    if data.verdict is None:
        lines.append(Line(("No verdict: no distilled set was compared.",), size=11, bold=True, space=12))
    else:
        lines += _verdict(data.verdict)
    if data.comparison is not None:
        lines += _arms(data.comparison)
    privacy = data.privacy.statement if data.privacy else "No attack on this set was measured."
    lines += [Line(("Privacy",), size=12, bold=True, space=12), Line((privacy,))]
    version = data.record.versions.get("medidistill", "")
    made = f"medidistill {version}, run of {data.record.started[:10]}. What each figure means: docs/statistics.md."
    return [*lines, Line((made,), size=7.5, colour="#57606a", space=12)]


def _verdict(verdict: Verdict) -> list[Line]:
    colour = _COLOURS[verdict.colour.value]
    lines = [
        Line((VERDICT_QUESTION,), size=13, bold=True, space=12),
        Line((verdict.sentence,), size=11, bold=True, bar=colour, space=6),
    ]
    if verdict.missing:
        lines.append(Line((f"Missing for a yes: {'; '.join(verdict.missing)}.",), space=6))
    lines += [Line((f"Warning: {one}",), bar=_COLOURS["amber"], space=5) for one in verdict.warnings]
    lines.append(Line((verdict.chosen_by,), space=5))
    places = (0.0, 0.29, 0.54, 0.775, 0.92)
    head = ("compared with", "in", "difference", "must", "met")
    lines.append(Line(head, places, size=7.5, bold=True, space=8))
    for one in verdict.described:
        row = (
            one.against_words,
            one.measure_words,
            one.difference_words,
            one.asked_words,
            _OUTCOMES[one.criterion.outcome.value],
        )
        lines.append(Line(row, places, size=7.5))
    below = criteria_note(verdict.architecture, verdict.confidence)
    return [*lines, Line((below,), size=7.5, colour="#57606a")]


def _arms(comparison: Comparison) -> list[Line]:
    tested = f"{comparison.test_images} test images of {comparison.test_patients} patients"
    places = (0.0, 0.38, 0.48, 0.74)
    lines = [
        Line((f"What networks reach on {tested}",), size=12, bold=True, space=12),
        Line(("trained on", "images", "balanced accuracy", "macro AUROC"), places, size=7.5, bold=True, space=4),
    ]
    first, classes = comparison.rows[0].architecture, len(comparison.class_names)
    for row in comparison.rows:
        if row.architecture == first:
            spans = (interval_text(one) for one in (row.balanced_accuracy, row.macro_auroc))
            lines.append(Line((row_words(row, classes), str(row.training_images), *spans), places, size=7.5))
    return lines


def _wrapped(line: Line, scale: float) -> list[list[str]]:
    """Return the lines of each cell at a size of the letters."""
    ends = (*line.places[1:], 1.0)
    wide = _WIDTH - 2 * _MARGIN - (10 if line.bar else 0)
    letter = _LETTER * line.size * scale * (1.08 if line.bold else 1.0)
    return [
        textwrap.wrap(cell, max(4, int((end - start) * wide / letter))) or [""]
        for cell, start, end in zip(line.cells, line.places, ends, strict=True)
    ]


def _height(line: Line, scale: float) -> float:
    return scale * line.space + max(map(len, _wrapped(line, scale))) * line.size * scale * _LEADING


def summary_pdf(data: ReportData) -> bytes:
    """Return the summary as PDF. Letters shrink until all of it fits on the page; the same data give the same bytes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    lines = summary_lines(data)
    scale = 1.0
    while scale > _SMALLEST and sum(_height(line, scale) for line in lines) > _HEIGHT - 2 * _MARGIN:
        scale -= 0.025
    figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72))
    FigureCanvasPdf(figure)
    at = _HEIGHT - _MARGIN
    for line in lines:
        at = _put(figure, line, at, scale)
    content = io.BytesIO()
    with mpl.rc_context({"pdf.fonttype": 42, "font.family": "DejaVu Sans"}):
        figure.savefig(content, format="pdf", metadata={"Title": data.title, "CreationDate": None, "Producer": None})
    return content.getvalue()


def _put(figure: Figure, line: Line, at: float, scale: float) -> float:
    """Draw a line whose top is `at` points above the foot; return where the next begins."""
    from matplotlib.patches import Rectangle

    below = at - _height(line, scale)
    size, inset = line.size * scale, 10.0 if line.bar else 0.0
    top = at - scale * line.space
    if line.bar:
        box = (_MARGIN / _WIDTH, (below - 1) / _HEIGHT)
        bar = Rectangle(box, 4 / _WIDTH, (top - below) / _HEIGHT, color=line.bar, transform=figure.transFigure)
        figure.add_artist(bar)
    wide = _WIDTH - 2 * _MARGIN - inset
    cells: Sequence[list[str]] = _wrapped(line, scale)
    for cell, place in zip(cells, line.places, strict=True):
        for number, text in enumerate(cell):
            figure.text(
                (_MARGIN + inset + place * wide) / _WIDTH,
                (top - (number + 1) * size * _LEADING + 0.3 * size) / _HEIGHT,
                text.replace("$", r"\$"),
                fontsize=size,
                fontweight="bold" if line.bold else "normal",
                color=line.colour or "#1c2128",
                va="baseline",
            )
    return below
