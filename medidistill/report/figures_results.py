"""Pictures of the comparison: balanced accuracy with intervals, confusion matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medidistill.report.arm_labels import drawn_label
from medidistill.report.drawing import Picture, new_figure, style_of
from medidistill.results.comparison import Comparison, Difference
from medidistill.statistics import Interval
from medidistill.words import arm_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["accuracies", "confusions"]


def accuracies(comparison: Comparison) -> Picture:
    """Draw balanced accuracy by arm with intervals, and the paired differences against zero."""
    rows, gaps = comparison.rows, [d for d in comparison.differences if d.metric == "balanced_accuracy"]
    arms = [row.arm for row in rows]
    several = len({row.architecture for row in rows}) > 1
    figure, axes = new_figure(1, 2 if gaps else 1, max(2.2, 0.9 + max(0.36 * len(rows), 0.42 * len(gaps))))
    chance = 1 / len(comparison.class_names)
    few = comparison.images_per_class
    words = [arm_words(row.arm, few) + (f", {row.architecture}" if several else "") for row in rows]
    for place, row in enumerate(rows):
        style = style_of(row.arm, arms)
        _dot(axes[0], place, row.balanced_accuracy, style.color, style.marker)
    axes[0].axvline(chance, color="#555555", lw=1, ls="--")
    axes[0].text(chance, -0.55, " chance", color="#555555", fontsize=8, va="top")
    axes[0].set_yticks(range(len(rows)), map(drawn_label, words), fontsize=8)
    axes[0].set_ylim(len(rows) - 0.3, -0.6)
    axes[0].set_xlim(min(chance, *(row.balanced_accuracy.low for row in rows)) - 0.03, 1.0)
    axes[0].set_title("balanced accuracy on the test split", fontsize=10)
    if gaps:
        for place, gap in enumerate(gaps):
            style = style_of(gap.arm, arms)
            _dot(axes[1], place, gap.bootstrap, style.color, style.marker)
        names = [_difference(d, few) + (f", {d.architecture}" if several else "") for d in gaps]
        axes[1].axvline(0, color="black", lw=1, ls="--")
        axes[1].set_yticks(range(len(gaps)), names, fontsize=7)
        axes[1].set_ylim(len(gaps) - 0.3, -0.6)
        axes[1].set_title("difference in balanced accuracy", fontsize=10)
    level = f"{100 * comparison.confidence:g} %"
    return Picture.of(
        figure,
        "accuracy",
        "Balanced accuracy with intervals",
        "Dot plot: "
        + "; ".join(f"{name} {row.balanced_accuracy.estimate:.2f}" for name, row in zip(words, rows, strict=True)),
        f"Left: mean over networks, bars are {level} intervals over patients and networks. Read them against two "
        "marks: what all real X-rays reach, and what as many random real X-rays do without any distillation. "
        " Right: differences with the same patients and the same starting weights on both sides; a bar "
        "that crosses zero shows no difference in this run, even where the dots on the left lie apart.",
    )


def _difference(gap: Difference, few: int) -> str:
    return "\nminus ".join(drawn_label(arm_words(side, few), 42) for side in (gap.arm, gap.minus))


def _dot(axes: Axes, place: int, interval: Interval, color: str, marker: str) -> None:
    axes.plot([interval.low, interval.high], [place, place], color=color, lw=2.2, solid_capstyle="butt")
    axes.plot(interval.estimate, place, marker, color=color, ms=8, mec="white", mew=0.8)


def confusions(comparison: Comparison) -> Picture:
    """Draw the confusion matrix of every row of the table, as shares of the true class."""
    rows, names = comparison.rows, comparison.class_names
    several = len({row.architecture for row in rows}) > 1
    words = [arm_words(row.arm, comparison.images_per_class) for row in rows]
    columns = min(4, len(rows)) if len(names) <= 4 else min(3, len(rows))
    columns = max(columns, 3)
    lines = -(-len(rows) // columns)
    figure, axes = new_figure(lines, columns, lines * (9.0 / columns + 0.7), share_y=True)
    short = [name if len(name) <= 12 else name[:11] + "." for name in names]
    for place, one in enumerate(axes):
        if place >= len(rows):
            one.set_visible(False)
            continue
        counts = np.asarray(rows[place].confusion, dtype=float)
        shares = counts / counts.sum(axis=1, keepdims=True)
        one.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for true in range(len(names)):
            for called in range(len(names)):
                share = shares[true, called]
                ink = "white" if share > 0.55 else "black"
                one.text(called, true, f"{100 * share:.0f}", ha="center", va="center", color=ink, fontsize=10)
        title = drawn_label(words[place]) + (f"\n{rows[place].architecture}" if several else "")
        one.set_title(title, fontsize=9)
        one.set_xticks(range(len(names)), short, rotation=40, ha="right", fontsize=8)
        one.set_yticks(range(len(names)), short, fontsize=8)
        one.grid(visible=False)
        one.tick_params(length=0)
        if place % columns == 0:
            one.set_ylabel("true class")
    figure.supxlabel("predicted class", fontsize=10)
    return Picture.of(
        figure,
        "confusion",
        "Confusion matrix",
        f"Confusion matrices in per cent of the true class for {', '.join(dict.fromkeys(words))}.",
        "Each row is a true class and adds up to 100 %; the diagonal is its sensitivity, mean over networks. Look for "
        "one-sided errors: a method that calls everything by one name fills a column, not the diagonal.",
    )
