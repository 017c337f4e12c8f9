"""The numbers behind the pictures, as tables of text. Take the clinical comparison as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medidistill.report.arm_labels import arm_label, model_label
from medidistill.textio import interval_text

__all__ = [
    "Table",
    "agreement_table",
    "areas_table",
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

    def span(self, value: Any, digits: int = 2, sign: str = "") -> str:
        """Return `estimate [low, high]`, or the mark of what is hidden or undefined."""
        if not isinstance(value, Mapping):
            return "hidden" if isinstance(value, str) else f"{value:{sign}.{digits}f}"
        if "undefined" in value:
            if value["undefined"] not in self.reasons:
                self.reasons.append(value["undefined"])
            known = f"{value['estimate']:{sign}.{digits}f} " if "estimate" in value else ""
            return f"{known}undefined ({self.reasons.index(value['undefined']) + 1})"
        return interval_text(value, digits, sign)


def _rows(
    clinical: Mapping[str, Any], row: Callable[[Mapping[str, Any], Mapping[str, Any]], list[str]]
) -> list[list[str]]:
    """Return one line an arm and class."""
    several = len({arm["architecture"] for arm in clinical["arms"]}) > 1
    return [
        [_name(clinical, arm, several), one["class"], *row(arm, one)]
        for arm in clinical["arms"]
        for one in arm["classes"]
    ]


def _name(clinical: Mapping[str, Any], arm: Mapping[str, Any], several: bool) -> str:
    return model_label(clinical, f"{arm['arm']}, {arm['architecture']}" if several else arm["arm"])


def areas_table(clinical: Mapping[str, Any]) -> Table:
    """AUROC by both methods, average precision, prevalence."""
    table = Table(
        "Each class against the rest. AUROC by DeLong with patients as clusters, and by drawing patients anew; average "
        "precision starts from the share of the class.",
        ("trained on", "class", "AUROC, DeLong", "AUROC, bootstrap", "average precision", "share of the class"),
    )
    several = len({arm["architecture"] for arm in clinical["arms"]}) > 1
    for arm in clinical["arms"]:
        name = _name(clinical, arm, several)
        table.rows.append(
            [name, "macro", table.span(arm["macro_auroc"], 3), table.span(arm["macro_auroc_bootstrap"], 3), "", ""]
        )
        for one in arm["classes"]:
            areas = [table.span(one[key], 3) for key in ("auroc", "auroc_bootstrap", "average_precision")]
            table.rows.append([name, one["class"], *areas, f"{one['prevalence']:.2f}"])
    return table


def differences_table(clinical: Mapping[str, Any]) -> Table:
    """Paired differences to the reference with p and verdict, and McNemar's test."""
    margin = clinical["settings"]["margin"]
    table = Table(
        f"Paired differences of AUROC on the same patients (DeLong), judged at a margin of {margin:g}; McNemar's exact "
        "test of equal error rates.",
        ("difference", "class", "AUROC difference", "p", f"at margin {margin:g}", "McNemar's p"),
    )
    several = len({arm["architecture"] for arm in clinical["arms"]}) > 1
    for gap in clinical["differences"]:
        pair = (arm_label(clinical, gap["arm"]), arm_label(clinical, gap["minus"]))
        name = " minus ".join(pair) + (f", {gap['architecture']}" if several else "")
        test = gap["mcnemar"]
        for where, one in {"macro": gap["macro"], **gap["classes"]}.items():
            p = f"{one['p_value']:.3f}" if "p_value" in one else ""
            equal = "" if where != "macro" else f"{test['p_value']:.3f}" if "p_value" in test else table.span(test)
            table.rows.append([name, where, table.span(one, 3, "+"), p, one.get("verdict", ""), equal])
    return table


def operating_table(clinical: Mapping[str, Any]) -> Table:
    """The threshold from validation and what it does on test."""
    table = Table(
        f"Threshold from validation at a specificity of {clinical['settings']['target_specificity']:g}. Exact limits "
        "over images, then limits by patient; likelihood ratios by patient. TP, FN, FP, TN: images.",
        (
            "trained on", "class", "threshold", "sensitivity", "by patient", "specificity", "by patient", "LR+", "LR-",
            "TP", "FN", "FP", "TN",
        ),
    )  # fmt: skip

    def row(_: Mapping[str, Any], one: Mapping[str, Any]) -> list[str]:
        point = one["operating_point"]
        if "undefined" in point:
            return [table.span(point), *[""] * 10]
        names = ("sensitivity", "sensitivity_by_patient", "specificity", "specificity_by_patient")
        ratios = [table.span(point[name], 1 if name == "lr_positive" else 2) for name in ("lr_positive", "lr_negative")]
        counts = [str(point["counts"][name]) for name in ("tp", "fn", "fp", "tn")]
        return [f"{point['threshold']:.3f}", *(table.span(point[name]) for name in names), *ratios, *counts]

    table.rows += _rows(clinical, row)
    return table


def agreement_table(clinical: Mapping[str, Any]) -> Table:
    """Brier score with its parts, calibration error, intercept and slope."""
    table = Table(
        "Brier score = miscalibration + refinement; refinement is compared with the score of always saying the share "
        "of the class. Calibration error (ECE) beside the 95 % quantile that a perfectly calibrated model would have "
        "by chance. Intercept 0 and slope 1 are right.",
        ("trained on", "class", "Brier score", "miscalibration", "refinement", "saying the share", "ECE",
         "ECE by chance", "intercept", "slope"),
    )  # fmt: skip

    def row(_: Mapping[str, Any], one: Mapping[str, Any]) -> list[str]:
        parts, curve, fit = one["brier_parts"], one["calibration"], one["recalibration"]
        found = [table.span(one["brier"], 3)]
        names = ("miscalibration", "refinement", "uncertainty")
        found += [table.span(parts)] + [""] * 2 if "undefined" in parts else [f"{parts[name]:.3f}" for name in names]
        found += (
            [table.span(curve), ""]
            if "undefined" in curve
            else [f"{curve['ece']:.3f}", f"{curve['ece_if_calibrated_95']:.3f}"]
        )
        return found + (
            [table.span(fit), ""] if "undefined" in fit else [table.span(fit[n]) for n in ("intercept", "slope")]
        )

    table.rows += _rows(clinical, row)
    return table


def subgroups_table(clinical: Mapping[str, Any], column: str) -> Table:
    """Counts and AUROC by group; hidden cells stay hidden."""
    names = clinical["class_names"]
    asked = clinical["settings"]
    table = Table(
        f"Groups of fewer than {asked['min_patients']} patients and classes of fewer than {asked['min_positives']} in "
        "a group are hidden, and enough others that they cannot be worked out.",
        (column, "images", *(f"{name}: images" for name in names), "trained on", *(f"{name}: AUROC" for name in names)),
    )
    for group in clinical["subgroups"][column]:
        counts = [str(group["images"]), *(str(group["counts"][name]) for name in names)]
        for model, found in group["auroc"].items():
            known = [table.span(found[name]) for name in names]
            table.rows.append(
                [
                    str(group["group"]),
                    *(count.replace("suppressed", "hidden") for count in counts),
                    model_label(clinical, model),
                    *known,
                ]
            )
    return table


def probe_table(clinical: Mapping[str, Any]) -> Table:
    """The source probe in numbers."""
    probe = clinical["source_probe"]
    table = Table(
        "Balanced accuracy on the test split, with limits by patient.", ("what is told", "balanced accuracy", "chance")
    )
    lines = {"site, from tiny images": probe["site"]}
    lines |= {f"site, among {name}": one for name, one in probe["within_class"].items()}
    rule = probe["label_from_site"]
    told = f", {rule['sites']} sites, {rule['patients']} test patients" if "sites" in rule else ""
    for title, one in {**lines, f"label, from the site alone{told}": rule}.items():
        table.rows.append(
            [title, table.span(one.get("balanced_accuracy", one)), f"{one['chance']:.2f}" if "chance" in one else ""]
        )
    return table
