"""Pictures of the distillation: loss, alpha and validation score over outer steps; the importance weights W."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from medidistill.report.drawing import Picture, new_figure, style_of
from medidistill.results.history import HistoryEntry, Series
from medidistill.words import method_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = ["curves", "importance"]

History = Sequence[HistoryEntry]
_ABOUT_SCORES = (
    " Third: what counts, the score on the validation split; the ring marks the best step, which was kept. A score "
    "that falls while the loss still falls means that training on paid no more."
)


def _series(history: History, key: Series) -> tuple[list[int], list[float]]:
    entries = [(entry["step"], value) for entry in history if (value := entry.get(key)) is not None]
    return [step for step, _ in entries], [value for _, value in entries]


def curves(histories: Mapping[str, History]) -> Picture:
    """Draw matching loss, alpha and validation score of every distillation."""
    from matplotlib.ticker import MaxNLocator

    scored = any(_series(history, "score")[0] for history in histories.values())
    panels: list[tuple[Series, str]] = [
        ("loss", "matching loss"),
        ("alpha", "learned rate alpha"),
        ("score", "validation balanced accuracy"),
    ]
    panels = panels if scored else panels[:2]
    figure, axes = new_figure(1, len(panels), 3.0)
    for one, (key, title) in zip(axes, panels, strict=True):
        for name, history in histories.items():
            style = style_of(name, list(histories))
            steps, values = _series(history, key)
            marker = style.marker if key == "score" else None
            one.plot(
                steps,
                values,
                color=style.color,
                linestyle=style.line,
                marker=marker,
                ms=4,
                lw=1.4,
                label=method_words(name),
            )
            if key == "score" and values:
                best = max(range(len(values)), key=values.__getitem__)
                one.plot(steps[best], values[best], "o", ms=11, mfc="none", mec=style.color, mew=1.6)
        one.set_title(title, fontsize=10)
        one.set_xlabel("outer step")
        one.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        one.set_xlim(left=0)
    axes[0].set_yscale("log")
    _plain_log_ticks(axes[0].yaxis)
    axes[1].ticklabel_format(axis="y", useOffset=False)
    axes[0].legend(fontsize=9)
    return Picture.of(
        figure,
        "curves",
        "How the distillation went",
        f"Line charts over outer steps for {', '.join(histories)}: {', '.join(title for _, title in panels)}.",
        "First: the distance between the network trained on the distilled images and the expert, 1 meaning no "
        "progress at all; it is noisy because every step matches another stretch of another expert, and losses of "
        "different methods are not on one scale. Second: the learning rate that the distilled set asks for."
        + (_ABOUT_SCORES if scored else " The images were not scored while they were made; the last step was kept."),
    )


def importance(history: History, name: str) -> Picture | None:
    """Draw W by layer at the last step that logged it, and the effective sample size; None where W was not learned."""
    logged = [entry for entry in history if entry.get("w")]
    if not logged:
        return None
    last = logged[-1]
    layers = list(last["w"])
    figure, axes = new_figure(1, 2, max(3.0, 1.0 + 0.26 * len(layers)))
    color = style_of(name).color
    _weights(axes[0], last["w"], color)
    axes[0].set_title(f"importance weight w, outer step {last['step']}", fontsize=10)
    steps, shares = _series(history, "effective_sample_size")
    axes[1].plot(steps, [100 * share for share in shares], color=color, lw=1.4)
    axes[1].set(xlabel="outer step", ylim=(0, 103))
    axes[1].set_title("effective sample size, % of moving parameters", fontsize=10)
    return Picture.of(
        figure,
        f"importance-{name}",
        f"Importance weights W by layer ({method_words(name)})",
        f"Left: range, quartiles and median of W for {len(layers)} tensors of the network on a logarithmic axis. "
        "Right: effective sample size over outer steps.",
        "Left: dot, thick bar and thin line are median, quartiles and extremes of the weight in each tensor, from "
        "the network's input at the top to its output; the line at 1 is plain trajectory matching. A weight above 1 "
        "says: hard to match, so count it more (or the reverse, if W descends). A dot alone: one weight for the "
        "whole tensor. Right: how many parameters still count; a fall to a few per cent means that W leans on a few "
        "of them.",
    )


def _weights(axes: Axes, w: Mapping[str, Mapping[str, float]], color: str) -> None:
    for row, spread in enumerate(w.values()):
        axes.plot([spread["min"], spread["max"]], [row, row], color=color, lw=1)
        axes.plot([spread["q25"], spread["q75"]], [row, row], color=color, lw=5, alpha=0.55, solid_capstyle="butt")
        axes.plot(spread["median"], row, "o", color=color, ms=5)
    axes.axvline(1, color="black", lw=1, ls="--")
    low, high = min(one["min"] for one in w.values()), max(one["max"] for one in w.values())
    axes.set_xscale("log")
    axes.set_xlim(min(low, 1 / 1.5) / 1.1, max(high, 1.5) * 1.1)
    _plain_log_ticks(axes.xaxis)
    axes.set_yticks(range(len(w)), list(w), fontsize=8)
    axes.invert_yaxis()


def _plain_log_ticks(axis: Axis) -> None:
    """Label 0.5, 1, 2 as such: powers of ten are too far apart on these axes and too hard to read."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
