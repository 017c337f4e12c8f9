"""The comparison as the app shows it: chosen arms, one architecture, tables for people and files for machines."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from medidistill.files import read_json, sha256_file
from medidistill.report.arm_labels import arm_label, model_label, with_images_per_class
from medidistill.report.drawing import Picture, style_of
from medidistill.report.figures_clinical import calibration, decision_curves, distributions
from medidistill.report.figures_curves import roc_curves
from medidistill.report.figures_results import accuracies, confusions
from medidistill.report.wording import findings
from medidistill.results.clinical import ClinicalComparison
from medidistill.results.clinical_figures import NOT_KEPT, CalibrationCurve, ClassFigures, DecisionCurve
from medidistill.results.comparison import Comparison
from medidistill.statistics import Interval, Suppressed, Undefined
from medidistill.textio import interval_text
from medidistill.words import arm_words, row_words
from view_models.runs import RunView

__all__ = [
    "VIEWS",
    "Figure",
    "Results",
    "all_hidden",
    "darkened",
    "figure",
    "legend_html",
    "probe_lines",
    "read_results",
    "report_is_current",
    "rows_table",
    "sentences",
    "subgroup_tables",
    "tested_words",
]

VIEWS = {
    "accuracy": "Accuracy",
    "roc": "ROC curves",
    "calibration": "Calibration",
    "decision": "Net benefit",
    "probabilities": "Probabilities",
    "confusion": "Confusion matrix",
}
_UNDEFINED = "not defined"
_TURNED = "invert(0.93) hue-rotate(180deg)"


@dataclass(frozen=True)
class Results:
    """What the comparison of a run left.

    Args:
        comparison: of all arms.
        clinical: the clinical figures; None where they are not there.
    """

    comparison: Comparison
    clinical: ClinicalComparison | None

    @property
    def architectures(self) -> list[str]:
        """Names of the networks, in order."""
        return list(dict.fromkeys(row.architecture for row in self.comparison.rows))

    @property
    def arms(self) -> list[str]:
        """Names of the arms, in order."""
        return list(dict.fromkeys(row.arm for row in self.comparison.rows))

    def words(self, arm: str) -> str:
        """Return what the networks of an arm were trained on."""
        classes = len(self.comparison.class_names)
        return next((row_words(row, classes) for row in self.comparison.rows if row.arm == arm), arm_words(arm))

    def only(self, arms: Sequence[str], architecture: str) -> Results:
        """Return the same for some arms and one architecture."""
        clinical = self.clinical
        if clinical is not None:
            shown = tuple(a for a in clinical.arms if a.arm in arms and a.architecture == architecture)
            clinical = dataclasses.replace(clinical, arms=shown)
        return Results(self.comparison.only(arms, architecture), clinical)


@dataclass(frozen=True)
class Figure:
    """A figure with what it is drawn from.

    Args:
        title: heading.
        alt: what it shows, for those who cannot see it.
        caption: how to read it.
        svg: the drawing.
        table: its figures.
    """

    title: str
    alt: str
    caption: str
    svg: str
    table: pd.DataFrame


def read_results(run: RunView, *, elsewhere: bool = False) -> Results | None:
    """Read a comparison; None where there is none.

    Args:
        run: the run.
        elsewhere: the one on the test set from elsewhere, not that on the run's own test split.

    Raises:
        IngestError: a file is damaged.
        ConfigError: a file holds something else.
    """
    folder = run.folder.evaluate / "external" if elsewhere else run.folder.evaluate
    file, clinical = folder / "comparison.json", folder / "clinical.json"
    if "evaluate" not in run.finished or not file.is_file():
        return None
    comparison = Comparison.from_dict(read_json(file))
    if not clinical.is_file():
        return Results(comparison, None)
    return Results(comparison, with_images_per_class(ClinicalComparison.from_dict(read_json(clinical)), comparison))


def report_is_current(run: RunView) -> bool:
    """Whether report and summary are of the verdict that a run holds now, as the record of their stage says."""
    told = (run.facts or {}).get("report")
    if told is None:
        return False
    written = told.get("written", {})
    file = run.folder.verdict
    return bool(written.get(file.name, "") == (sha256_file(file) if file.is_file() else ""))


def sentences(results: Results) -> list[str]:
    """Return what the table says, in sentences."""
    return findings(results.comparison)


def tested_words(results: Results) -> str:
    """Return on how many patients the figures rest, with the classes of which there are few."""
    comparison = results.comparison
    few = [note for note in comparison.notes if note.startswith("Class ") and "test patients" in note]
    told = f"Scored on {comparison.test_images} images of {comparison.test_patients} test patients."
    return " ".join([told, *few])


def _span(value: Interval | Undefined | Suppressed) -> str:
    if isinstance(value, Suppressed):
        return str(value)
    return _UNDEFINED if isinstance(value, Undefined) else interval_text(value)


def darkened(svg: str) -> str:
    """Return a drawing for a dark page: light and dark change places, hues stay."""
    return re.sub(r"<svg\b", f'<svg style="filter: {_TURNED}"', svg, count=1)


def legend_html(arms: Sequence[str], per_class: int, *, dark: bool) -> str:
    """Return the legend of a drawing as HTML: it does not shrink with the drawing, and names arms in words."""
    turned = f"; filter: {_TURNED}" if dark else ""
    shown = "".join(
        f'<span style="margin-right: 1.2em; white-space: nowrap"><span style="display: inline-block; width: 0.9em; '
        f"height: 0.9em; margin-right: 0.4em; border-radius: 2px; background: {style_of(arm, arms).color}{turned}"
        f'"></span>{html.escape(arm_words(arm, per_class))}</span> '
        for arm in arms
    )
    return f'<div style="font-size: 0.9rem; line-height: 1.8">{shown}</div>'


def rows_table(results: Results) -> pd.DataFrame:
    """Return the table of the comparison: one row an arm."""
    return pd.DataFrame(
        [
            {
                "trained on": results.words(row.arm),
                "balanced accuracy": _span(row.balanced_accuracy),
                "macro AUROC": _span(row.macro_auroc),
                "images": row.training_images,
                "network": row.architecture,
                "networks": row.networks,
            }
            for row in results.comparison.rows
        ]
    )


def figure(results: Results, view: str) -> Figure | None:
    """Draw one view of `VIEWS`; None where the run does not hold what it needs."""
    if view == "accuracy":
        return _of(accuracies(results.comparison), _accuracy_table(results))
    if view == "confusion":
        return _of(confusions(results.comparison), _confusion_table(results))
    if results.clinical is None or not results.clinical.arms:
        return None
    if view == "roc":
        held = results.clinical.arms[0].classes[0].roc != NOT_KEPT  # runs of older versions hold no curves
        return _of(roc_curves(results.clinical), _area_table(results)) if held else None
    if view == "calibration":
        return _of(calibration(results.clinical), _calibration_table(results.clinical))
    if view == "decision":
        return _of(decision_curves(results.clinical), _decision_table(results.clinical))
    return _of(distributions(results.clinical), _histogram_table(results.clinical))


def _of(picture: Picture, table: pd.DataFrame) -> Figure:
    return Figure(picture.title, picture.alt, picture.caption, picture.content.decode(), table)


def _accuracy_table(results: Results) -> pd.DataFrame:
    rows = [
        {"what": results.words(row.arm), "architecture": row.architecture, "metric": metric, **vars(figure)}
        for row in results.comparison.rows
        for metric, figure in (("balanced_accuracy", row.balanced_accuracy), ("macro_auroc", row.macro_auroc))
    ]
    rows += [
        {
            "what": f"{results.words(gap.arm)} minus {results.words(gap.minus)}",
            "architecture": gap.architecture,
            "metric": gap.metric,
            **vars(gap.bootstrap),
        }
        for gap in results.comparison.differences
    ]
    return pd.DataFrame(rows)


def _confusion_table(results: Results) -> pd.DataFrame:
    names = results.comparison.class_names
    return pd.DataFrame(
        [
            {
                "trained on": results.words(row.arm),
                "true class": names[true],
                **dict(zip(names, counts, strict=True)),
            }
            for row in results.comparison.rows
            for true, counts in enumerate(row.confusion)
        ]
    )


def _classes(clinical: ClinicalComparison) -> list[tuple[str, ClassFigures]]:
    return [(arm_label(clinical, arm.arm), one) for arm in clinical.arms for one in arm.classes]


def _area_table(results: Results) -> pd.DataFrame:
    if results.clinical is None:
        return _accuracy_table(results)
    rows = []
    for arm, one in _classes(results.clinical):
        point = one.operating_point
        row = {"trained on": arm, "class": one.name, "AUROC": _span(one.auroc)}
        row["average precision"] = _span(one.average_precision)
        told = [_UNDEFINED] * 3
        if not isinstance(point, Undefined):
            told = [f"{point.threshold:.3f}", _span(point.sensitivity), _span(point.specificity)]
        for name, text in zip(("threshold", "sensitivity", "specificity"), told, strict=True):
            row[f"{name} (chosen on validation)"] = text
        rows.append(row)
    return pd.DataFrame(rows)


def _calibration_table(clinical: ClinicalComparison) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "trained on": arm,
                "class": one.name,
                "predicted": point.predicted,
                **{f"observed {side}": value for side, value in vars(point.observed).items()},
            }
            for arm, one in _classes(clinical)
            if isinstance(one.calibration, CalibrationCurve)
            for point in one.calibration.bins
        ]
    )


def _decision_table(clinical: ClinicalComparison) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"trained on": arm, "class": one.name, "threshold": at, "net benefit": benefit, "act on all": everyone}
            for arm, one in _classes(clinical)
            if isinstance(curve := one.decision_curve, DecisionCurve)
            for at, benefit, everyone in zip(curve.thresholds, curve.net_benefit, curve.treat_all, strict=True)
        ]
    )


def _histogram_table(clinical: ClinicalComparison) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"trained on": arm, "class": one.name, "from": low, "to": high, "with": with_it, "without": without}
            for arm, one in _classes(clinical)
            for low, high, with_it, without in zip(
                one.histogram.edges[:-1],
                one.histogram.edges[1:],
                one.histogram.positives,
                one.histogram.negatives,
                strict=True,
            )
        ]
    )


def subgroup_tables(results: Results) -> dict[str, pd.DataFrame]:
    """Return column -> one row a group and class, one column a model; hidden cells say so."""
    clinical, tables = results.clinical, {}
    if clinical is None:
        return {}
    for column, groups in clinical.subgroups.items():
        rows = []
        for group in groups:
            for name, count in group.counts.items():
                row = {"group": group.group, "class": name}
                row |= {"images": str(group.images), "with the finding": str(count)}
                for model, areas in group.auroc.items():
                    row[f"AUROC, {model_label(clinical, model)}"] = _span(areas[name])
                rows.append(row)
        tables[column] = pd.DataFrame(rows)
    return tables


def all_hidden(table: pd.DataFrame) -> bool:
    """Whether a table of subgroups shows no figure, because every group is too small."""
    areas = table[[name for name in table if str(name).startswith("AUROC, ")]]
    return bool(len(table)) and not areas.map(lambda text: str(text)[:1].isdigit()).to_numpy().any()


def probe_lines(results: Results) -> list[str]:
    """Return what the source probe found, in sentences; empty where it was not made."""
    probe = results.clinical.source_probe if results.clinical is not None else None
    if probe is None:
        return []
    lines = []
    site, rule = probe.site, probe.label_from_site
    if isinstance(site, Undefined):
        lines.append(f"Whether the site can be told from the image was not examined: {site.undefined}.")
    else:
        lines.append(
            f"A simple model tells the site ({', '.join(site.sites)}) from a very small copy of the image with "
            f"balanced accuracy {_known(site.balanced_accuracy)}; chance is {site.chance:.2f}."
        )
    if isinstance(rule, Undefined):
        return [*lines, f"What the site alone tells of the class was not examined: {rule.undefined}."]
    first = results.architectures[0]
    networks = "; ".join(
        f"{row.balanced_accuracy.estimate:.3f} on {results.words(row.arm)}"
        for row in results.comparison.rows
        if row.architecture == first
    )
    tested = "" if rule.patients is None else f" on {rule.patients} test patients"
    area = "" if rule.macro_auroc is None else f", AUROC {_known(rule.macro_auroc)}"
    lines.append(
        f"Calling every image by what its site holds most of reaches a balanced accuracy of "
        f"{_known(rule.balanced_accuracy)}{tested}{area}; chance is {rule.chance:.2f}. Networks that look at "
        f"the image reach {networks}. Only what lies beyond the first figure is worth more than the site."
    )
    if rule.one_class_sites:
        lines.append(f"{rule.one_class_sites} of {rule.sites} sites hold images of one class alone.")
    return lines


def _known(value: Interval | Undefined) -> str:
    """Return a figure with its limits, and without them where they alone are undefined."""
    if isinstance(value, Undefined) and value.estimate is not None:
        return f"{value.estimate:.3f} (no limits: {value.undefined})"
    return _span(value)
