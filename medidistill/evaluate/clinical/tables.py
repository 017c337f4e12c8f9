"""The clinical comparison as CSV, for spreadsheets: one line a number. Takes what `clinical_comparison` returned.

What the data do not define has its reason in the column `undefined`; what must not be shown is `suppressed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medidistill.textio import csv_text

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


def figures_csv(result: Mapping[str, Any]) -> str:
    """Return every single number of every arm and difference."""
    columns = ("arm", "minus", "architecture", "class", "measure", *_LIMITS, "p_value", "verdict", "undefined")
    return csv_text(columns, _figures(result))


def _figures(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for arm in result["arms"]:
        common = {"arm": arm["arm"], "architecture": arm["architecture"]}
        for measure in _WHOLE:
            yield common | {"measure": measure} | _span(arm[measure])
        for one in arm["classes"]:
            yield from ({**common, "class": one["class"], **row} for row in _of_class(one))
    for gap in result["differences"]:
        common = {name: gap[name] for name in ("arm", "minus", "architecture")}
        for name, one in {"": gap["macro"], **gap["classes"]}.items():
            measure = "auroc_difference" if name else "macro_auroc_difference"
            tested = {key: one[key] for key in ("p_value", "verdict") if key in one}
            yield common | {"class": name, "measure": measure} | _span(one) | tested
        test = gap["mcnemar"]
        if "undefined" in test:
            yield common | {"measure": "mcnemar", "undefined": test["undefined"]}
        else:
            yield common | {"measure": "mcnemar_only_arm_right", "estimate": test["only_first"]}
            yield common | {"measure": "mcnemar_only_minus_right", "estimate": test["only_second"]}
            yield common | {"measure": "mcnemar", "p_value": test["p_value"]}


def _of_class(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"measure": "prevalence", "estimate": one["prevalence"]}
    for measure in _CLASS:
        yield {"measure": measure} | _span(one[measure])
    for group, names in (
        ("brier_parts", ("miscalibration", "refinement", "discrimination", "uncertainty")),
        ("calibration", ("ece", "ece_if_calibrated", "ece_if_calibrated_95", "squared_error_debiased")),
        ("recalibration", ("intercept", "slope")),
        ("operating_point", ("threshold", "val_specificity")),
    ):
        if "undefined" in one[group]:
            yield {"measure": group, "undefined": one[group]["undefined"]}
            continue
        for name in names:
            yield {"measure": f"{group}_{name}"} | _span(one[group][name])
    point = one["operating_point"]
    if "undefined" not in point:
        for name in _POINT:
            yield {"measure": f"operating_point_{name}"} | _span(point[name])
        for name, count in point["counts"].items():
            yield {"measure": f"operating_point_{name}", "estimate": count}


def _span(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {"estimate": value}
    return {key: value[key] for key in (*_LIMITS, "undefined") if key in value}


def curves_csv(result: Mapping[str, Any]) -> str:
    """Return the points of every curve: ROC, precision-recall, calibration, decision curve, histogram."""
    return csv_text(("arm", "architecture", "class", "curve", "x", "y", "low", "high"), _curves(result))


def _curves(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for arm in result["arms"]:
        for one in arm["classes"]:
            common = {"arm": arm["arm"], "architecture": arm["architecture"], "class": one["class"]}
            for curve, points in _points(one):
                yield from ({**common, "curve": curve, **point} for point in points)


def _points(one: Mapping[str, Any]) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    def pairs(x: Sequence[float], y: Sequence[float]) -> Iterator[dict[str, Any]]:
        return ({"x": a, "y": b} for a, b in zip(x, y, strict=True))

    for name in ("roc", "precision_recall"):
        if "undefined" not in one[name]:
            yield name, pairs(one[name]["x"], one[name]["y"])
    calibration, decision, histogram = one["calibration"], one["decision_curve"], one["histogram"]
    if "undefined" not in calibration:
        bins = calibration["bins"]
        sides = ({"low": b["observed"]["low"], "high": b["observed"]["high"]} for b in bins)
        points = pairs([b["predicted"] for b in bins], [b["observed"]["estimate"] for b in bins])
        yield "calibration", (point | side for point, side in zip(points, sides, strict=True))
    if "undefined" not in decision:
        sides = ({"low": a, "high": b} for a, b in zip(decision["low"], decision["high"], strict=True))
        points = pairs(decision["thresholds"], decision["net_benefit"])
        yield "net_benefit", (point | side for point, side in zip(points, sides, strict=True))
        yield "net_benefit_act_on_all", pairs(decision["thresholds"], decision["treat_all"])
    for side in ("positives", "negatives"):
        yield f"histogram_{side}", pairs(histogram["edges"][:-1], histogram[side])


def subgroups_csv(result: Mapping[str, Any]) -> str:
    """Return the subgroup tables, one line a group, class and model; hidden cells stay hidden."""
    columns = ("column", "group", "class", "model", "images_of_class", "images_of_group", *_LIMITS, "undefined")
    return csv_text(columns, _subgroups(result))


def _subgroups(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for column, groups in result["subgroups"].items():
        for group in groups:
            common = {"column": column, "group": group["group"], "images_of_group": group["images"]}
            for model, areas in group["auroc"].items():
                for name, area in areas.items():
                    counts = {"class": name, "model": model, "images_of_class": group["counts"][name]}
                    yield common | counts | _span(area)
