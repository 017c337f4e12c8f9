"""The clinical comparison as CSV, for spreadsheets: one line a number.

What the data do not define has its reason in the column `undefined`; what must not be shown is `suppressed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from medidistill.results.clinical import ArmDifference, ClinicalComparison, JudgedDifference
from medidistill.results.clinical_figures import CalibrationCurve, ClassFigures, DecisionCurve, OperatingPoint
from medidistill.statistics import Suppressed, Undefined
from medidistill.textio import CsvRow, csv_text

__all__ = ["curves_csv", "figures_csv", "subgroups_csv"]

_LIMITS = ("estimate", "low", "high")
_WHOLE = ("macro_auroc", "macro_auroc_bootstrap", "brier")
_CLASS = ("auroc", "auroc_bootstrap", "average_precision", "brier")
_POINT = (
    "sensitivity",
    "specificity",
    "sensitivity_by_patient",
    "specificity_by_patient",
    "lr_positive",
    "lr_negative",
)


def figures_csv(result: ClinicalComparison) -> str:
    """Return every single number of every arm and difference."""
    columns = ("arm", "minus", "architecture", "class", "measure", *_LIMITS, "p_value", "verdict", "undefined")
    return csv_text(columns, _figures(result))


def _figures(result: ClinicalComparison) -> Iterator[CsvRow]:
    for arm in result.arms:
        common: CsvRow = {"arm": arm.arm, "architecture": arm.architecture}
        for measure in _WHOLE:
            yield common | {"measure": measure} | _span(getattr(arm, measure))
        for one in arm.classes:
            yield from ({**common, "class": one.name, **row} for row in _of_class(one))
    for gap in result.differences:
        yield from _of_difference(gap)


def _of_difference(gap: ArmDifference) -> Iterator[CsvRow]:
    common: CsvRow = {"arm": gap.arm, "minus": gap.minus, "architecture": gap.architecture}
    for name, one in {"": gap.macro, **gap.classes}.items():
        measure = "auroc_difference" if name else "macro_auroc_difference"
        tested: CsvRow = {}
        if isinstance(one, JudgedDifference):
            tested = {"p_value": one.p_value, "verdict": one.verdict}
        yield common | {"class": name, "measure": measure} | _span(one) | tested
    test = gap.mcnemar
    if isinstance(test, Undefined):
        yield common | {"measure": "mcnemar", "undefined": test.undefined}
    else:
        yield common | {"measure": "mcnemar_only_arm_right", "estimate": test.only_first}
        yield common | {"measure": "mcnemar_only_minus_right", "estimate": test.only_second}
        yield common | {"measure": "mcnemar", "p_value": test.p_value}


def _of_class(one: ClassFigures) -> Iterator[CsvRow]:
    yield {"measure": "prevalence", "estimate": one.prevalence}
    for measure in _CLASS:
        yield {"measure": measure, **_span(getattr(one, measure))}
    for group, names in (
        ("brier_parts", ("miscalibration", "refinement", "discrimination", "uncertainty")),
        ("calibration", ("ece", "ece_if_calibrated", "ece_if_calibrated_95", "squared_error_debiased")),
        ("recalibration", ("intercept", "slope")),
        ("operating_point", ("threshold", "val_specificity")),
    ):
        figures = getattr(one, group)
        if isinstance(figures, Undefined):
            yield {"measure": group, "undefined": figures.undefined}
            continue
        for name in names:
            yield {"measure": f"{group}_{name}", **_span(getattr(figures, name))}
    if isinstance(one.operating_point, OperatingPoint):
        for name in _POINT:
            yield {"measure": f"operating_point_{name}", **_span(getattr(one.operating_point, name))}
        for name, count in one.operating_point.counts.items():
            yield {"measure": f"operating_point_{name}", "estimate": count}


def _span(value: Any) -> CsvRow:
    """Return the cells of a figure: a number, an interval, a difference, an undefined or a hidden one."""
    if isinstance(value, Suppressed):
        return {"estimate": str(value)}
    if isinstance(value, Undefined):
        return {"estimate": value.estimate, "undefined": value.undefined}
    if isinstance(value, int | float):
        return {"estimate": value}
    return {name: getattr(value, name) for name in _LIMITS}


def curves_csv(result: ClinicalComparison) -> str:
    """Return the points of every curve: ROC, precision-recall, calibration, decision curve, histogram."""
    return csv_text(("arm", "architecture", "class", "curve", "x", "y", "low", "high"), _curves(result))


def _curves(result: ClinicalComparison) -> Iterator[CsvRow]:
    for arm in result.arms:
        for one in arm.classes:
            common: CsvRow = {"arm": arm.arm, "architecture": arm.architecture, "class": one.name}
            for curve, points in _points(one):
                yield from ({**common, "curve": curve, **point} for point in points)


def _points(one: ClassFigures) -> Iterator[tuple[str, Iterator[CsvRow]]]:
    for name, curve in (("roc", one.roc), ("precision_recall", one.precision_recall)):
        if not isinstance(curve, Undefined):
            yield name, _pairs(curve.x, curve.y)
    if isinstance(one.calibration, CalibrationCurve):
        bins = one.calibration.bins
        sides: Iterator[CsvRow] = ({"low": b.observed.low, "high": b.observed.high} for b in bins)
        points = _pairs([b.predicted for b in bins], [b.observed.estimate for b in bins])
        yield "calibration", (point | side for point, side in zip(points, sides, strict=True))
    if isinstance(decision := one.decision_curve, DecisionCurve):
        sides = ({"low": a, "high": b} for a, b in zip(decision.low, decision.high, strict=True))
        points = _pairs(decision.thresholds, decision.net_benefit)
        yield "net_benefit", (point | side for point, side in zip(points, sides, strict=True))
        yield "net_benefit_act_on_all", _pairs(decision.thresholds, decision.treat_all)
    for side, counts in (("positives", one.histogram.positives), ("negatives", one.histogram.negatives)):
        yield f"histogram_{side}", _pairs(one.histogram.edges[:-1], counts)


def _pairs(x: Sequence[float], y: Sequence[float]) -> Iterator[CsvRow]:
    return ({"x": a, "y": b} for a, b in zip(x, y, strict=True))


def subgroups_csv(result: ClinicalComparison) -> str:
    """Return the subgroup tables, one line a group, class and model; hidden cells stay hidden."""
    columns = ("column", "group", "class", "model", "images_of_class", "images_of_group", *_LIMITS, "undefined")
    return csv_text(columns, _subgroups(result))


def _subgroups(result: ClinicalComparison) -> Iterator[CsvRow]:
    for column, groups in result.subgroups.items():
        for group in groups:
            common: CsvRow = {"column": column, "group": group.group, "images_of_group": str(group.images)}
            for model, areas in group.auroc.items():
                for name, area in areas.items():
                    counts: CsvRow = {"class": name, "model": model, "images_of_class": str(group.counts[name])}
                    yield common | counts | _span(area)
