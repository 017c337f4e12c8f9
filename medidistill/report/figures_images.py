"""Pictures of the distilled set itself: the images, and how they came to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medidistill.distilled_set import DistilledSet
from medidistill.report.drawing import Picture, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["distilled_images", "evolution"]

_MOST_COLUMNS = 10
_CELL = 0.85  # inches


def distilled_images(distilled: DistilledSet) -> Picture:
    """Draw up to ten images of each class, one row a class."""
    shown = [
        torch.nonzero(distilled.labels == k).flatten()[:_MOST_COLUMNS].tolist() for k in range(distilled.num_classes)
    ]
    columns = max(len(rows) for rows in shown)
    display = distilled.normalisation.to_display(distilled.images)
    figure, axes = new_figure(len(shown), max(columns, 4), max(1.2, _CELL * len(shown) * 10 / max(columns, 4)))
    for k, rows in enumerate(shown):
        for place in range(max(columns, 4)):
            one = axes[k * max(columns, 4) + place]
            _bare(one)
            if place < len(rows):
                _image(one, display[rows[place]])
            else:
                one.set_visible(place == 0)
        axes[k * max(columns, 4)].set_ylabel(_wrapped(distilled.class_names[k]), rotation=0, ha="right", va="center")
    per_class = torch.bincount(distilled.labels, minlength=distilled.num_classes)
    some = " The first ten of each class are shown." if int(per_class.max()) > _MOST_COLUMNS else ""
    return Picture.of(
        figure,
        "distilled",
        f"The {len(distilled)} distilled images",
        f"Grid of {distilled.num_classes} rows, one for each class: {', '.join(distilled.class_names)}; "
        "small grey synthetic images.",
        "These images were made from noise by the optimisation; none is a radiograph. Expect blurred, ghost-like "
        "chests with exaggerated contrast where the classes differ. Pure noise means that too few outer steps were "
        f"taken; a sharp, lifelike X-ray would be a reason to worry about a copied patient.{some}",
        pixels=True,
    )


def evolution(steps: Sequence[tuple[int, Tensor]], distilled: DistilledSet) -> Picture:
    """Draw the first image of each class at up to eight outer steps, from the first to the last."""
    count = min(8, len(steps))
    chosen = [steps[round(i * (len(steps) - 1) / max(1, count - 1))] for i in range(count)]
    rows, columns = distilled.num_classes, max(count, 4)
    figure, axes = new_figure(rows, columns, max(1.4, 0.3 + _CELL * rows * 10 / columns))
    for column, (step, images) in enumerate(chosen):
        display = distilled.normalisation.to_display(images)
        for row in range(rows):  # class by class; of a packed set the first of each are kept
            one = axes[row * columns + column]
            _image(one, display[row * (len(images) // rows)])
            if row == 0:
                one.set_title(f"step {step}", fontsize=9)
    for position, one in enumerate(axes):
        _bare(one)
        if position % columns >= count:
            one.set_visible(False)
    for row, name in enumerate(distilled.class_names):
        axes[row * columns].set_ylabel(_wrapped(name), rotation=0, ha="right", va="center")
    return Picture.of(
        figure,
        "evolution",
        "From noise to the distilled images",
        f"The first image of each class at outer steps {', '.join(str(step) for step, _ in chosen)}.",
        "The first image of each class while it was optimised. Structure should appear early and then settle; the step "
        "that is kept is the one with the best score on the validation split, which need not be the last.",
        pixels=True,
    )


def _wrapped(name: str) -> str:
    return name.replace(" ", "\n").replace("_", "\n")


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def _image(axes: Axes, image: Tensor) -> None:
    """Show one (C, H, W) image in [0, 1]: grey for one channel, colour for three."""
    pixels = image.permute(1, 2, 0).numpy()
    axes.imshow(
        pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest"
    )
