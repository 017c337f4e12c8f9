"""The numbers behind the pictures, as tables of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from medidistill.report.arm_labels import arm_label, model_label
from medidistill.results.clinical import ArmFigures, ClinicalComparison, LabelFromSite, SiteProbe
from medidistill.results.clinical_figures import ClassFigures
from medidistill.statistics import Suppressed, Undefined
from medidistill.textio import Limits, interval_text

__all__ = [
    "Table",
    "auroc_table",
    "calibration_table",
    "differences_table",
    "operating_table",
    "probe_table",
    "subgroups_table",
]


@dataclass
class Table:
    """A table of text: `head`, `rows` and a caption; reasons of what is undefined are collected while it is built."""

    caption: str
    head: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def span(self, value: Limits | Undefined | Suppressed, digits: int = 2, sign: str = "") -> str:
        """Return `estimate [low, high]`, or the mark of what is hidden or undefined."""
        if isinstance(value, Suppressed):
            return "hidden"
        if isinstance(value, Undefined):
            if value.undefined not in self.reasons:
                self.reasons.append(value.undefined)
            known = "" if value.estimate is None else f"{value.estimate:{sign}.{digits}f} "
            return f"{known}undefined ({self.reasons.index(value.undefined) + 1})"
        return interval_text(value, digits, sign)


def _rows(clinical: ClinicalComparison, row: Callable[[ClassFigures], list[str]]) -> list[list[str]]:
    """Return one line an arm and class."""
    several = len({arm.architecture for arm in clinical.arms}) > 1
    return [[_name(clinical, arm, several), one.name, *row(one)] for arm in clinical.arms for one in arm.classes]


def _name(clinical: ClinicalComparison, arm: ArmFigures, several: bool) -> str:
    return model_label(clinical, f"{arm.arm}, {arm.architecture}" if several else arm.arm)


def auroc_table(clinical: ClinicalComparison) -> Table:
    """AUROC by both methods, average precision, prevalence."""
    table = Table(
        "Each class against the rest. AUROC by DeLong with patients as clusters, and by drawing patients anew; average "
        "precision starts from the share of the class.",
        ("trained on", "class", "AUROC, DeLong", "AUROC, bootstrap", "average precision", "share of the class"),
    )
    several = len({arm.architecture for arm in clinical.arms}) > 1
    for arm in clinical.arms:
        name = _name(clinical, arm, several)
        table.rows.append(
            [name, "macro", table.span(arm.macro_auroc, 3), table.span(arm.macro_auroc_bootstrap, 3), "", ""]
        )
        for one in arm.classes:
            areas = [table.span(area, 3) for area in (one.auroc, one.auroc_bootstrap, one.average_precision)]
            table.rows.append([name, one.name, *areas, f"{one.prevalence:.2f}"])
    return table


def differences_table(clinical: ClinicalComparison) -> Table:
    """Paired differences to the reference with p and verdict, and McNemar's test."""
    margin = clinical.settings.margin
    table = Table(
        f"Paired differences of AUROC on the same patients (DeLong), judged at a margin of {margin:g}; McNemar's exact "
        "test of equal error rates.",
        ("difference", "class", "AUROC difference", "p", f"at margin {margin:g}", "McNemar's p"),
    )
    several = len({arm.architecture for arm in clinical.arms}) > 1
    for gap in clinical.differences:
        pair = (arm_label(clinical, gap.arm), arm_label(clinical, gap.minus))
        name = " minus ".join(pair) + (f", {gap.architecture}" if several else "")
        test = gap.mcnemar
        equal = table.span(test) if isinstance(test, Undefined) else f"{test.p_value:.3f}"
        for where, one in {"macro": gap.macro, **gap.classes}.items():
            judged = ("", "") if isinstance(one, Undefined) else (f"{one.p_value:.3f}", one.verdict)
            table.rows.append([name, where, table.span(one, 3, "+"), *judged, equal if where == "macro" else ""])
    return table


def operating_table(clinical: ClinicalComparison) -> Table:
    """The threshold from validation and what it does on test."""
    table = Table(
        f"Threshold from validation at a specificity of {clinical.settings.target_specificity:g}. Exact limits "
        "over images, then limits by patient; likelihood ratios by patient. TP, FN, FP, TN: images.",
        (
            "trained on", "class", "threshold", "sensitivity", "by patient", "specificity", "by patient", "LR+", "LR-",
            "TP", "FN", "FP", "TN",
        ),
    )  # fmt: skip

    def row(one: ClassFigures) -> list[str]:
        point = one.operating_point
        if isinstance(point, Undefined):
            return [table.span(point), *[""] * 10]
        rates = (point.sensitivity, point.sensitivity_by_patient, point.specificity, point.specificity_by_patient)
        ratios = [table.span(point.lr_positive, 1), table.span(point.lr_negative, 2)]
        counts = [str(count) for _, count in point.counts.items()]
        return [f"{point.threshold:.3f}", *map(table.span, rates), *ratios, *counts]

    table.rows += _rows(clinical, row)
    return table


def calibration_table(clinical: ClinicalComparison) -> Table:
    """Brier score with its parts, calibration error, intercept and slope."""
    table = Table(
        "Brier score = miscalibration + refinement; refinement is compared with the score of always saying the share "
        "of the class. Calibration error (ECE) beside the 95 % quantile that a perfectly calibrated model would have "
        "by chance. Intercept 0 and slope 1 are right.",
        ("trained on", "class", "Brier score", "miscalibration", "refinement", "saying the share", "ECE",
         "ECE by chance", "intercept", "slope"),
    )  # fmt: skip

    def row(one: ClassFigures) -> list[str]:
        parts, curve, fit = one.brier_parts, one.calibration, one.recalibration
        found = [table.span(one.brier, 3)]
        if isinstance(parts, Undefined):
            found += [table.span(parts), "", ""]
        else:
            found += [f"{value:.3f}" for value in (parts.miscalibration, parts.refinement, parts.uncertainty)]
        if isinstance(curve, Undefined):
            found += [table.span(curve), ""]
        else:
            found += [f"{curve.ece:.3f}", f"{curve.ece_if_calibrated_95:.3f}"]
        if isinstance(fit, Undefined):
            return [*found, table.span(fit), ""]
        return [*found, table.span(fit.intercept), table.span(fit.slope)]

    table.rows += _rows(clinical, row)
    return table


def subgroups_table(clinical: ClinicalComparison, column: str) -> Table:
    """Counts and AUROC by group; hidden cells stay hidden."""
    names = clinical.class_names
    asked = clinical.settings
    table = Table(
        f"Groups of fewer than {asked.min_patients} patients and classes of fewer than {asked.min_positives} in "
        "a group are hidden, and enough others that they cannot be worked out.",
        (column, "images", *(f"{name}: images" for name in names), "trained on", *(f"{name}: AUROC" for name in names)),
    )
    for group in clinical.subgroups[column]:
        counts = [_count(group.images), *(_count(group.counts[name]) for name in names)]
        for model, found in group.auroc.items():
            known = [table.span(found[name]) for name in names]
            table.rows.append(
                [
                    group.group,
                    *counts,
                    model_label(clinical, model),
                    *known,
                ]
            )
    return table


def probe_table(clinical: ClinicalComparison) -> Table:
    """The source probe in numbers."""
    probe = clinical.source_probe
    assert probe is not None
    table = Table(
        "Balanced accuracy on the test split, with limits by patient.", ("what is told", "balanced accuracy", "chance")
    )
    lines: dict[str, SiteProbe | LabelFromSite | Undefined] = {"site, from tiny images": probe.site}
    lines |= {f"site, among {name}": one for name, one in probe.within_class.items()}
    rule, told = probe.label_from_site, ""
    if isinstance(rule, LabelFromSite) and rule.sites is not None:
        told = f", {rule.sites} sites, {rule.patients} test patients"
    for title, one in {**lines, f"label, from the site alone{told}": rule}.items():
        if isinstance(one, Undefined):
            table.rows.append([title, table.span(one), ""])
        else:
            table.rows.append([title, table.span(one.balanced_accuracy), f"{one.chance:.2f}"])
    return table


def _count(images: int | Suppressed) -> str:
    return "hidden" if isinstance(images, Suppressed) else str(images)
