"""The page: figures and sentences set into one HTML file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from medidistill.report import wording
from medidistill.report.data import ReportData
from medidistill.report.drawing import Picture
from medidistill.report.figures_clinical import calibration, decision_curves, distributions
from medidistill.report.figures_images import distilled_images, evolution
from medidistill.report.figures_results import accuracies, confusions, roc_curves
from medidistill.report.figures_training import curves, importance

__all__ = ["render"]


def render(data: ReportData) -> str:
    """Return the report as one self-contained HTML page: inline style, pictures as data addresses, no script.

    Distilled images are pictured only where the recipe says that they started from noise: images that started from
    real ones keep pointing at their patients. Same data, same page.
    """
    environment = Environment(
        loader=PackageLoader("medidistill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"span": _span, "pretty": _pretty}
    comparison = data.comparison
    opened, opened_often = wording.test_openings(data.record.test_openings)
    return environment.get_template("report.html").render(
        data=data,
        record=data.record,
        comparison=comparison,
        several_networks=comparison is not None and len({row["architecture"] for row in comparison["rows"]}) > 1,
        findings=wording.findings(comparison) if comparison else [],
        confounded=wording.confounded_sites(data.sites, data.class_names),
        split_names=_columns(data.splits.values()),
        results=_results(data),
        making=_making(data),
        opened=opened,
        opened_often=opened_often,
        quarantine=wording.quarantine_by_reason(data.quarantine),
    )


def _results(data: ReportData) -> list[Picture]:
    pictures = []
    if data.comparison:
        pictures.append(accuracies(data.comparison))
    if data.roc:
        pictures.append(roc_curves(data.roc, data.class_names))
    if data.comparison:
        pictures.append(confusions(data.comparison))
    if data.clinical:
        pictures += [calibration(data.clinical), decision_curves(data.clinical), distributions(data.clinical)]
    return pictures


def _making(data: ReportData) -> list[Picture]:
    pictures: list[Picture | None] = []
    if data.distilled is not None and data.may_show_images:
        pictures.append(distilled_images(data.distilled))
        if data.evolution:
            pictures.append(evolution(data.evolution, data.distilled))
    if data.histories:
        pictures.append(curves(data.histories))
        pictures += [importance(history, name) for name, history in data.histories.items()]
    return [picture for picture in pictures if picture is not None]


def _columns(rows: Any) -> list[str]:
    """Return the keys of all rows in order of first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _span(interval: dict[str, float], digits: int = 3, sign: str = "") -> str:
    texts: Sequence[str] = [f"{interval[name]:{sign}.{digits}f}" for name in ("estimate", "low", "high")]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
