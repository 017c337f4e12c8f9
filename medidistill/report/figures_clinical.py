"""Pictures for clinicians: calibration, net benefit, probabilities by class.

Each shows the arms of one architecture, one panel a class. What is undefined is said in its panel, never drawn as zero.
"""

from __future__ import annotations

import numpy as np

from medidistill.report.arm_labels import arm_label, arm_labels, drawn_label
from medidistill.report.drawing import Picture, new_figure, style_of
from medidistill.report.panels import (
    against_the_rest,
    annotate_undefined,
    arm_legend,
    arms_of,
    class_panels,
    labelled,
    wrapped,
)
from medidistill.results.clinical import ClinicalComparison
from medidistill.statistics import Undefined

__all__ = ["calibration", "decision_curves", "distributions"]

_HIGHEST_THRESHOLD = 0.8


def calibration(clinical: ClinicalComparison, architecture: str | None = None) -> Picture:
    """Draw observed against predicted share in bins of equal numbers of images, with limits for the reference arm."""
    names, arms = clinical.class_names, arms_of(clinical, architecture)
    reference = clinical.settings.reference
    figure, panels = class_panels(names, 3.9 + 0.17 * -(-len(arms) // 3), len(arms))
    for k, axes in enumerate(panels):
        axes.plot([0, 1], [0, 1], color="#999999", lw=1)
        missing = []
        for arm in arms:
            curve, style = arm.classes[k].calibration, style_of(arm.arm, [one.arm for one in arms])
            if isinstance(curve, Undefined):
                missing.append(arm_label(clinical, arm.arm))
                continue
            predicted = [one.predicted for one in curve.bins]
            observed = [one.observed.estimate for one in curve.bins]
            if arm.arm == reference:
                ends = [[one.observed.low for one in curve.bins], [one.observed.high for one in curve.bins]]
                axes.vlines(predicted, *ends, color=style.color, lw=0.8, alpha=0.6)
            label = f"{curve.ece:.2f}"
            axes.plot(
                predicted, observed, color=style.color, linestyle=style.line, marker=style.marker, ms=4, label=label
            )
        against_the_rest(axes, names[k])
        axes.set(xlabel="predicted probability", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        if len(missing) < len(arms):
            legend = axes.legend(fontsize=7, title="calibration error", title_fontsize=7, loc="upper center", ncols=3)
            legend.set_bbox_to_anchor((0.5, -0.2))  # below: curves may be anywhere inside
        annotate_undefined(axes, missing)
        if k % 3 == 0:
            axes.set_ylabel("observed share")
    arm_legend(figure, clinical, arms)
    return Picture.of(
        figure,
        "calibration",
        "Calibration",
        f"Calibration curves of {', '.join(arm_labels(clinical, arms))} for each of {', '.join(names)}.",
        "Of images that are given 30 %, three in ten should have the finding: then a curve follows the grey diagonal. "
        "Below it the model claims too much, above it too little. Every point holds about the same number of "
        f"images; bars are limits for {arm_label(clinical, reference)}. The number is the expected calibration error, "
        "which is above zero by chance alone.",
    )


def decision_curves(clinical: ClinicalComparison, architecture: str | None = None) -> Picture:
    """Draw the net benefit of acting on each arm, against acting on everyone and on no one."""
    names, arms = clinical.class_names, arms_of(clinical, architecture)
    figure, panels = class_panels(names, 3.0, len(arms) + 2)
    for k, axes in enumerate(panels):
        drawn, missing = [], []
        for arm in arms:
            curve, style = arm.classes[k].decision_curve, style_of(arm.arm, [one.arm for one in arms])
            if isinstance(curve, Undefined):
                missing.append(arm_label(clinical, arm.arm))
                continue
            at = np.asarray(curve.thresholds)
            keep = at <= _HIGHEST_THRESHOLD
            drawn.append((at[keep], np.asarray(curve.treat_all)[keep], curve.prevalence))
            values = np.asarray(curve.net_benefit)[keep]
            axes.plot(at[keep], values, color=style.color, linestyle=style.line, lw=1.5)
        for at, everyone, prevalence in drawn[:1]:
            axes.plot(at, everyone, color="#777777", lw=1, label="act on all")
            axes.set_ylim(-0.15 * prevalence - 0.01, 1.08 * prevalence)
        axes.axhline(0, color="#777777", lw=1, ls="--", label="act on none")
        against_the_rest(axes, names[k])
        axes.set(xlabel="threshold probability", xlim=(0, _HIGHEST_THRESHOLD))
        annotate_undefined(axes, missing)
        if k % 3 == 0:
            axes.set_ylabel("net benefit")
    arm_legend(figure, clinical, arms, labelled(panels))
    return Picture.of(
        figure,
        "decision",
        "Decision curves",
        f"Net benefit of {', '.join(arm_labels(clinical, arms))} for each of {', '.join(names)}.",
        "Choose the probability at which you would act (10 % means: nine needless actions are a fair price for one "
        "needed). There the highest curve is the most useful; a curve below the grey lines is worth less than "
        "acting on all or "
        "on none. Heights hold for the share of the finding among these test images, not for your hospital's.",
    )


def distributions(clinical: ClinicalComparison, architecture: str | None = None) -> Picture:
    """Draw how the probability of each class is distributed among images with and without it, one row an arm."""
    names, arms = clinical.class_names, arms_of(clinical, architecture)
    figure, axes = new_figure(len(arms), len(names), 0.5 + 1.15 * len(arms), share_y=False)
    for place, one in enumerate(axes):
        line, k = divmod(place, len(names))
        counts = arms[line].classes[k].histogram
        style = style_of(arms[line].arm, [arm.arm for arm in arms])
        for side, color, sign in ((counts.positives, style.color, 1), (counts.negatives, "#9aa4b0", -1)):
            total = max(1, sum(side))
            one.stairs(sign * np.asarray(side) / total, counts.edges, fill=True, color=color, alpha=0.85)
        one.axhline(0, color="black", lw=0.6)
        one.set(xlim=(0, 1), yticks=[])
        one.grid(visible=False)
        if line == 0:
            one.set_title(wrapped(names[k]), fontsize=10)
        if line < len(arms) - 1:
            one.set_xticklabels([])
        if k == 0:
            label = drawn_label(arm_label(clinical, arms[line].arm))
            one.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    figure.supxlabel("probability that the model gives", fontsize=10)
    return Picture.of(
        figure,
        "probabilities",
        "Probabilities by class",
        f"Histograms of the predicted probability for {', '.join(names)}, one row for each of "
        f"{', '.join(arm_labels(clinical, arms))}.",
        "Upward, coloured: images that have the finding. Downward, grey: images that have not. A useful model "
        "keeps them "
        "apart; two alike shapes mean that it does not know. Heaps at 0 and 1 belong to a model that is always sure.",
    )
