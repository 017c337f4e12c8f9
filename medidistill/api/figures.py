"""One figure for a result: images, course of the distillation, confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from medidistill.distilled_set import DistilledSet
from medidistill.results.history import HistoryEntry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

_MOST = 8  # images of a class that are shown


def draw(distilled: DistilledSet, entries: Sequence[HistoryEntry], confusion: Sequence[Sequence[int]] | None) -> Figure:
    """Draw a set with the history of its distillation and its confusion matrix, where there are any."""
    from medidistill.export.notebook_figure import NotebookFigure

    figure = NotebookFigure(figsize=(11, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _images(left, distilled)
    _course(middle, entries)
    _confusion(right, confusion, distilled.class_names)
    return figure


def _images(axes: Axes, distilled: DistilledSet) -> None:
    display = distilled.normalisation.to_display(distilled.images.detach().cpu())
    labels = distilled.labels.cpu()
    rows = [display[labels == k][:_MOST] for k in range(distilled.num_classes)]
    widest = max(len(row) for row in rows)
    _, channels, height, width = display.shape
    sheet = torch.ones(channels, height * len(rows), width * widest)
    for number, row in enumerate(rows):
        for place, image in enumerate(row):
            sheet[:, number * height : (number + 1) * height, place * width : (place + 1) * width] = image
    pixels = sheet.permute(1, 2, 0).numpy()
    axes.imshow(pixels[..., 0] if channels == 1 else pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([(k + 0.5) * height for k in range(len(rows))], [name[:16] for name in distilled.class_names])
    axes.set_title("distilled images")


def _course(axes: Axes, entries: Sequence[HistoryEntry]) -> None:
    steps = [entry["step"] for entry in entries]
    axes.plot(steps, [entry["loss"] for entry in entries], color="tab:blue", linewidth=1)
    axes.set(xlabel="outer step", ylabel="loss", title="distillation" if entries else "no history")
    scored = [(entry["step"], entry["score"]) for entry in entries if entry.get("score") is not None]
    if scored:
        other = axes.twinx()
        other.plot(*zip(*scored, strict=True), color="tab:orange", marker="o", markersize=3)
        other.set_ylabel("balanced accuracy on validation", color="tab:orange")


def _confusion(axes: Axes, confusion: Sequence[Sequence[int]] | None, names: Sequence[str]) -> None:
    if confusion is None:
        axes.set_axis_off()
        axes.set_title("not evaluated")
        return
    counts = torch.tensor(confusion, dtype=torch.float64)
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    places = range(len(names))
    axes.set_xticks(places, [name[:10] for name in names], rotation=45, ha="right", fontsize=7)
    axes.set_yticks(places, [name[:10] for name in names], fontsize=7)
    if len(names) <= 10:
        for row in places:
            for column in places:
                dark = float(shares[row, column]) > 0.5
                axes.text(
                    column,
                    row,
                    f"{shares[row, column]:.2f}",
                    ha="center",
                    va="center",
                    color="white" if dark else "black",
                )
    axes.set(xlabel="predicted", ylabel="true", title="test, share of each class")
