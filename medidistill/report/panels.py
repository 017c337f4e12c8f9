"""What figures of one panel a class share: layout, titles that fit, and saying what is undefined."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from medidistill.report.arm_labels import arm_label, drawn_label
from medidistill.report.drawing import new_figure, style_of
from medidistill.results.clinical import ArmFigures, ClinicalComparison

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["against_the_rest", "annotate_undefined", "arm_legend", "arms_of", "class_panels", "labelled", "wrapped"]

_COLUMNS = 3
_LEGEND_COLUMNS = 4
_LEGEND_LINE = 0.36  # inches, two lines of letters


def arms_of(clinical: ClinicalComparison, architecture: str | None = None) -> list[ArmFigures]:
    """Return the arms of one architecture, the first one where None is named."""
    chosen = architecture or clinical.arms[0].architecture
    return [arm for arm in clinical.arms if arm.architecture == chosen]


def class_panels(names: Sequence[str], height: float, legend: int = 0) -> tuple[Figure, list[Axes]]:
    """Return one panel a class, three to a row, spare ones hidden.

    Args:
        names: of the classes.
        height: of a row of panels, inches.
        legend: entries of the legend that `arm_legend` puts below.
    """
    columns = min(_COLUMNS, len(names))
    lines = -(-len(names) // columns)
    below = 0.2 + _LEGEND_LINE * -(-legend // _LEGEND_COLUMNS) if legend else 0.0
    figure, axes = new_figure(lines, columns, height * lines + below)
    for one in axes[len(names) :]:
        one.set_visible(False)
    return figure, axes[: len(names)]


def wrapped(name: str, width: int = 26) -> str:
    """Return a name broken into lines, at underscores too, so that long ones stay inside their panel."""
    lines = textwrap.wrap(name.replace("_", "_ "), width, break_long_words=True)
    return "\n".join(lines).replace("_ ", "_")


def against_the_rest(axes: Axes, name: str) -> None:
    """Title a panel with the class that it is about."""
    axes.set_title(wrapped(f"{name} against the rest"), fontsize=10)


def annotate_undefined(axes: Axes, missing: Sequence[str]) -> None:
    """Name in the panel what could not be drawn."""
    if missing:
        text = textwrap.fill("undefined: " + ", ".join(missing), 34)
        axes.text(0.98, 0.04, text, transform=axes.transAxes, ha="right", fontsize=8)


def arm_legend(
    figure: Figure,
    clinical: ClinicalComparison,
    arms: Sequence[ArmFigures],
    others: Mapping[str, Artist] | None = None,
) -> None:
    """Name the arms, and other lines, below all panels."""
    from matplotlib.lines import Line2D

    known = [arm.arm for arm in arms]
    lines: dict[str, Artist] = {}
    for name in known:
        style = style_of(name, known)
        line = Line2D([], [], color=style.color, linestyle=style.line, marker=style.marker, ms=4)
        lines[drawn_label(arm_label(clinical, name))] = line
    lines |= dict(others or {})
    figure.legend(
        lines.values(), lines.keys(), loc="outside lower center", ncols=min(_LEGEND_COLUMNS, len(lines)), fontsize=8
    )


def labelled(panels: Sequence[Axes]) -> dict[str, Artist]:
    """Return the labelled lines of all panels; an arm that is undefined in one panel may be in another."""
    return {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
