"""Pictures of ROC and precision-recall curves, one panel a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from medidistill.report.arm_labels import arm_label, arm_labels
from medidistill.report.drawing import Picture, style_of
from medidistill.report.panels import against_the_rest, annotate_undefined, arm_legend, arms_of, class_panels
from medidistill.results.clinical import ClinicalComparison
from medidistill.results.clinical_figures import Curve
from medidistill.statistics import Interval, Undefined, point_estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["precision_recall_curves", "roc_curves"]


def roc_curves(clinical: ClinicalComparison, architecture: str | None = None, *, name: str = "roc") -> Picture:
    """Draw one panel a class, that class against the rest, one curve an arm."""
    names, arms = clinical.class_names, arms_of(clinical, architecture)
    figure, panels = class_panels(names, 3.6, len(arms))
    for k, axes in enumerate(panels):
        axes.plot([0, 1], [0, 1], color="#999999", lw=1)
        _draw(
            axes, clinical, {arm.arm: (arm.classes[k].roc, arm.classes[k].auroc) for arm in arms}, "area", "lower right"
        )
        against_the_rest(axes, names[k])
        axes.set(xlabel="1 - specificity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        if k % 3 == 0:
            axes.set_ylabel("sensitivity")
    arm_legend(figure, clinical, arms)
    return Picture.of(
        figure,
        name,
        "ROC curves, one class against the rest",
        f"ROC curves of {', '.join(arm_labels(clinical, arms))} for each of {', '.join(names)}.",
        "The nearer a curve comes to the upper left corner, the better; the grey diagonal is guessing. Curves are of "
        f"the mean probability over the {arms[0].architecture} networks of an arm, so an area here can be a little "
        "above the table's, which is the mean of single networks. Curves that cross mean that no arm is better at "
        "every threshold.",
    )


def precision_recall_curves(clinical: ClinicalComparison, architecture: str | None = None) -> Picture:
    """Draw precision over sensitivity, one panel a class, with the prevalence as the line of guessing."""
    names, arms = clinical.class_names, arms_of(clinical, architecture)
    figure, panels = class_panels(names, 3.6, len(arms))
    for k, axes in enumerate(panels):
        prevalence = arms[0].classes[k].prevalence
        axes.axhline(prevalence, color="#999999", lw=1)
        curves = {arm.arm: (arm.classes[k].precision_recall, arm.classes[k].average_precision) for arm in arms}
        _draw(axes, clinical, curves, "average precision", "lower left")
        against_the_rest(axes, names[k])
        axes.set(xlabel="sensitivity (recall)", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        if k % 3 == 0:
            axes.set_ylabel("precision")
    arm_legend(figure, clinical, arms)
    return Picture.of(
        figure,
        "precision-recall",
        "Precision and sensitivity",
        f"Precision-recall curves of {', '.join(arm_labels(clinical, arms))} for each of {', '.join(names)}.",
        "Of the images that a model calls by the class's name, which share has it (precision), if the threshold is set "
        "to find so many of them (sensitivity)? The grey line is guessing: it lies at the share of the class among "
        "these test images, so curves from test sets with another share cannot be compared. The number is the average "
        "precision.",
    )


def _draw(
    axes: Axes,
    clinical: ClinicalComparison,
    curves: Mapping[str, tuple[Curve | Undefined, Interval | Undefined]],
    title: str,
    place: str,
) -> None:
    """Draw the curve of each arm, with its area in the legend."""
    missing = []
    for arm, (points, value) in curves.items():
        if isinstance(points, Undefined):
            missing.append(arm_label(clinical, arm))
            continue
        style, area = style_of(arm, list(curves)), point_estimate(value)
        label = "undefined" if area is None else f"{area:.2f}"
        axes.plot(points.x, points.y, color=style.color, linestyle=style.line, lw=1.5, label=label)
    if len(missing) < len(curves):
        axes.legend(fontsize=7, loc=place, title=title, title_fontsize=7)
    annotate_undefined(axes, missing)
