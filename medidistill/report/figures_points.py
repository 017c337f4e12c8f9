"""Pictures of single figures with their intervals: areas, differences, operating points, Brier scores.

One row an arm, one panel a class; what is undefined is said in its row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from medidistill.report.arm_labels import arm_label, arm_labels, drawn_label
from medidistill.report.drawing import Picture, Style, new_figure, style_of
from medidistill.report.panels import arms_of, wrapped
from medidistill.results.clinical import ArmDifference, ArmFigures, ClinicalComparison, JudgedDifference
from medidistill.statistics import Interval, Undefined
from medidistill.textio import Limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["areas", "brier_scores", "differences", "mcnemar", "operating_points"]

_GREY = "#777777"


def dot(axes: Axes, place: float, value: Limits | Undefined, style: Style, *, hollow: bool = False) -> None:
    """Draw an estimate with its interval at a row, or the word undefined."""
    if not isinstance(value, Undefined):
        axes.plot([value.low, value.high], [place, place], color=style.color, lw=1.8, solid_capstyle="butt")
    if value.estimate is not None:
        face = "white" if hollow else style.color
        axes.plot(value.estimate, place, style.marker, mfc=face, mec=style.color, ms=6)
    else:
        axes.text(0.5, place, "undefined", transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=8)


def rows(axes: Axes, labels: Sequence[str], *, shown: bool) -> None:
    """Label the rows of a panel from the top, or leave the labels to the panel on the left."""
    axes.set_yticks(
        range(len(labels)), [drawn_label(one) for one in labels] if shown else [""] * len(labels), fontsize=8
    )
    axes.set_ylim(len(labels) - 0.4, -0.6)


def _grid(
    panels: Sequence[tuple[str, Callable[[Axes], None]]], labels: Sequence[str], extra: float = 1.0
) -> tuple[Figure, list[Axes]]:
    """Draw panels side by side, at most four to a line."""
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = new_figure(lines, columns, lines * (extra + 0.34 * len(labels)))
    for place, one in enumerate(axes):
        if place >= len(panels):
            one.set_visible(False)
            continue
        title, draw = panels[place]
        draw(one)
        one.set_title(wrapped(title, 24), fontsize=9)
        rows(one, labels, shown=place % columns == 0)
    return figure, list(axes)


def _named(arms: Sequence[ArmFigures]) -> list[tuple[ArmFigures, Style]]:
    known = [arm.arm for arm in arms]
    return [(arm, style_of(arm.arm, known)) for arm in arms]


def areas(clinical: ClinicalComparison, architecture: str | None = None) -> Picture:
    """Draw the AUROC of every arm, its DeLong interval above the one by bootstrap."""
    names, arms = clinical.class_names, _named(arms_of(clinical, architecture))

    def panel(both: Callable[[ArmFigures], tuple[Interval | Undefined, Interval]]) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            axes.axvline(0.5, color=_GREY, lw=1, ls="--")
            for place, (arm, style) in enumerate(arms):
                exact, drawn = both(arm)
                dot(axes, place - 0.14, exact, style)
                dot(axes, place + 0.14, drawn, style, hollow=True)
            axes.set_xlim(right=1.02)

        return draw

    panels = [("macro", panel(lambda arm: (arm.macro_auroc, arm.macro_auroc_bootstrap)))]
    panels += [
        (name, panel(lambda arm, k=k: (arm.classes[k].auroc, arm.classes[k].auroc_bootstrap)))  # type: ignore[misc]
        for k, name in enumerate(names)
    ]
    figure, _ = _grid(panels, arm_labels(clinical, (arm for arm, _ in arms)))
    figure.supxlabel("AUROC", fontsize=10)
    return Picture.of(
        figure,
        "areas",
        "AUROC with two kinds of intervals",
        f"AUROC of {', '.join(arm_labels(clinical, (arm for arm, _ in arms)))}: macro average and {', '.join(names)}.",
        "The chance that an image with the finding gets a higher probability than one without; 0.5 (dashed) is "
        "guessing. Full marks: DeLong's interval with patients as clusters. Hollow marks: the same by drawing patients "
        "anew. Where the two differ much, there are too few patients for either.",
    )


def _gaps(clinical: ClinicalComparison, architecture: str | None) -> list[ArmDifference]:
    """Return the differences of one architecture, the first where none is named."""
    chosen = architecture or clinical.arms[0].architecture
    return [gap for gap in clinical.differences if gap.architecture == chosen]


def differences(clinical: ClinicalComparison, architecture: str | None = None) -> Picture | None:
    """Draw AUROC minus that of the reference with the non-inferiority margin; None where nothing is compared."""
    gaps = _gaps(clinical, architecture)
    if not gaps:
        return None
    known, margin = [arm.arm for arm in clinical.arms], clinical.settings.margin
    parts: dict[str, list[JudgedDifference | Undefined]] = {"macro": [gap.macro for gap in gaps]}
    parts |= {name: [gap.classes[name] for gap in gaps] for name in clinical.class_names}

    def panel(values: Sequence[JudgedDifference | Undefined]) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            axes.axvline(0, color="black", lw=1)
            axes.axvline(-margin, color="#D55E00", lw=1.2, ls=(0, (4, 2)))
            for place, (gap, value) in enumerate(zip(gaps, values, strict=True)):
                dot(axes, place, value, style_of(gap.arm, known))

        return draw

    figure, _ = _grid([(name, panel(values)) for name, values in parts.items()], arm_labels(clinical, gaps))
    reference = arm_label(clinical, gaps[0].minus)
    figure.supxlabel(f"AUROC minus that of {reference}; dashed: minus the margin of {margin:g}", fontsize=10)
    said = ", ".join(f"{arm_label(clinical, gap.arm)}: {_judgement(gap)}" for gap in gaps)
    return Picture.of(
        figure,
        "noninferiority",
        f"Is an arm at most {margin:g} worse than {reference}?",
        f"Differences of AUROC with intervals and the margin. Macro: {said}.",
        f"Macro average: {said}. The whole interval right of the dashed line: non-inferior at this margin. The whole "
        "interval left of it: inferior. Across it: these patients do not decide, which is no evidence of equality. "
        "The same patients on both sides. A margin chosen after a look at this picture proves nothing.",
    )


def mcnemar(clinical: ClinicalComparison, architecture: str | None = None) -> Picture | None:
    """Draw how many images only one of two models gets right; None where nothing is compared."""
    gaps = _gaps(clinical, architecture)
    if not gaps:
        return None
    known = [arm.arm for arm in clinical.arms]
    figure, (axes,) = new_figure(1, 1, 1.1 + 0.36 * len(gaps))
    for place, gap in enumerate(gaps):
        test, style = gap.mcnemar, style_of(gap.arm, known)
        if isinstance(test, Undefined):
            axes.text(0, place, "both right and wrong on the same images", ha="center", va="center", fontsize=8)
            continue
        axes.barh(place, test.only_first, color=style.color, height=0.6)
        axes.barh(place, -test.only_second, color="#9aa4b0", height=0.6)
        axes.annotate(
            f"{test.only_first}  ({_p(test.p_value)})", (test.only_first, place), (4, 0),
            textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
        axes.annotate(
            str(test.only_second), (-test.only_second, place), (-4, 0),
            textcoords="offset points", va="center", ha="right", fontsize=8,
        )  # fmt: skip
    axes.axvline(0, color="black", lw=0.8)
    rows(axes, arm_labels(clinical, gaps), shown=True)
    axes.margins(x=0.2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    reference = arm_label(clinical, gaps[0].minus)
    axes.set_xlabel(f"images that only networks on {reference} get right   |   images that only those on the left do")
    return Picture.of(
        figure,
        "mcnemar",
        "Who is right where the other is wrong",
        "; ".join(f"{arm_label(clinical, gap.arm)}: {_mcnemar_words(gap)}" for gap in gaps),
        "Images on which two models disagree about being right. Equal bars: equal error rates, even if the errors are "
        "others. p is McNemar's exact test; it takes images as independent, so with several images a patient it is "
        "too small.",
    )


def _judgement(gap: ArmDifference) -> str:
    return "undefined" if isinstance(gap.macro, Undefined) else gap.macro.verdict


def _mcnemar_words(gap: ArmDifference) -> str:
    test = gap.mcnemar
    if isinstance(test, Undefined):
        return "undefined"
    return f"{test.only_first} images right alone against {test.only_second}, {_p(test.p_value)}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def operating_points(clinical: ClinicalComparison, architecture: str | None = None) -> Picture:
    """Draw sensitivity and specificity on test at the threshold that validation chose."""
    names, arms = clinical.class_names, _named(arms_of(clinical, architecture))
    target = clinical.settings.target_specificity

    def panel(k: int) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            axes.axvline(target, color=_GREY, lw=1, ls="--")
            for place, (arm, style) in enumerate(arms):
                point = arm.classes[k].operating_point
                if isinstance(point, Undefined):
                    dot(axes, place - 0.14, point, style)
                    continue
                dot(axes, place - 0.14, point.sensitivity, style)
                dot(axes, place + 0.14, point.specificity, style, hollow=True)
            axes.set_xlim(-0.02, 1.02)

        return draw

    figure, _ = _grid(
        [(name, panel(k)) for k, name in enumerate(names)], arm_labels(clinical, (arm for arm, _ in arms))
    )
    figure.supxlabel("full marks: sensitivity; hollow marks: specificity", fontsize=10)
    return Picture.of(
        figure,
        "operating",
        f"Sensitivity at a specificity of {target:g}",
        f"Sensitivity and specificity on test of {', '.join(arm_labels(clinical, (arm for arm, _ in arms)))} for "
        f"{', '.join(names)}.",
        f"The threshold was set on validation so that {100 * target:g} % of the images without the finding stay below "
        "it (dashed), and then left alone. Hollow marks show what that became on the test split: where they miss the "
        "dashed line, sensitivities cannot be compared at face value. Bars take images as independent; the table has "
        "limits by patient.",
    )


def brier_scores(clinical: ClinicalComparison, architecture: str | None = None) -> Picture:
    """Draw the Brier score of every arm and class against that of always saying the prevalence."""
    names, arms = clinical.class_names, _named(arms_of(clinical, architecture))

    def panel(k: int) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            prevalence = arms[0][0].classes[k].prevalence
            axes.axvline(prevalence * (1 - prevalence), color=_GREY, lw=1, ls="--")
            for place, (arm, style) in enumerate(arms):
                dot(axes, place, arm.classes[k].brier, style)
            axes.set_xlim(left=0)

        return draw

    figure, _ = _grid(
        [(name, panel(k)) for k, name in enumerate(names)], arm_labels(clinical, (arm for arm, _ in arms))
    )
    figure.supxlabel("Brier score, lower is better; dashed: always saying the prevalence", fontsize=10)
    return Picture.of(
        figure,
        "brier",
        "Brier scores",
        f"Brier scores of {', '.join(arm_labels(clinical, (arm for arm, _ in arms)))} for {', '.join(names)}.",
        "Mean squared error of the probability of each class, with limits over patients. Right of the dashed line a "
        "model is worse than one that looks at no image and always says the prevalence. The table parts the score into "
        "what recalibrating would remove and what would stay.",
    )
