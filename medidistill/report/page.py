"""The page: figures and sentences set into one HTML file that needs nothing else."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from medidistill.report import wording
from medidistill.report.arm_labels import with_images_per_class
from medidistill.report.data import ReportData
from medidistill.report.drawing import Picture
from medidistill.report.figures_clinical import calibration, decision_curves, distributions
from medidistill.report.figures_curves import precision_recall_curves, roc_curves
from medidistill.report.figures_groups import source_probe, subgroups
from medidistill.report.figures_images import distilled_images, evolution
from medidistill.report.figures_points import areas, brier_scores, differences, mcnemar, operating_points
from medidistill.report.figures_results import accuracies, confusions
from medidistill.report.figures_saliency import saliency
from medidistill.report.figures_training import curves, importance
from medidistill.report.tables import (
    Table,
    auroc_table,
    calibration_table,
    differences_table,
    operating_table,
    probe_table,
    subgroups_table,
)
from medidistill.results.clinical import ClinicalComparison
from medidistill.results.comparison import Comparison, Row
from medidistill.textio import interval_text
from medidistill.words import VERDICT_QUESTION, arm_words, criteria_note, row_words

__all__ = ["render"]


class Block(NamedTuple):
    """A picture and the table of its numbers; one of them may be missing."""

    picture: Picture | None
    table: Table | None = None


def render(data: ReportData) -> str:
    """Return the report as one self-contained HTML page: inline style, pictures as data addresses, no script.

    With `data.explanations` the page shows patients and says so at the top. Distilled images are pictured only where
    the recipe says that they started from noise: images that started from real ones keep pointing at their patients.
    Same data, same page.
    """
    environment = Environment(
        loader=PackageLoader("medidistill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"span": interval_text}
    environment.filters |= {"pretty": _pretty}
    environment.filters |= {"measured": wording.measured}
    environment.filters |= {"trained_on": _trained_on, "arm_of": _arm_of}
    environment.globals |= {"verdict_question": VERDICT_QUESTION, "criteria_note": criteria_note}
    comparison = data.comparison
    if data.clinical is not None:
        data = dataclasses.replace(data, clinical=with_images_per_class(data.clinical, comparison))
    opened, opened_often = wording.test_openings(data.record.test_openings)
    return environment.get_template("report.html").render(
        data=data,
        record=data.record,
        comparison=comparison,
        several_networks=comparison is not None and len({row.architecture for row in comparison.rows}) > 1,
        findings=wording.findings(comparison) if comparison else [],
        split_names=_columns(data.splits.values()),
        results=_results(data),
        judged=_clinical_blocks(data.clinical) if data.clinical else [],
        groups=_groups(data.clinical) if data.clinical else [],
        elsewhere=_external_blocks(data),
        explained=saliency(data.explanations) if data.explanations and data.explanations.cases else None,
        making=_distillation_blocks(data),
        opened=opened,
        opened_often=opened_often,
        quarantine=wording.quarantine_by_reason(data.quarantine),
    )


def _results(data: ReportData) -> list[Block]:
    """What the arms are worth: the pictures that everyone reads first."""
    blocks = []
    if data.comparison:
        blocks.append(Block(accuracies(data.comparison)))
    if data.clinical:
        blocks.append(Block(roc_curves(data.clinical)))
    if data.comparison:
        blocks.append(Block(confusions(data.comparison)))
    return blocks


def _clinical_blocks(clinical: ClinicalComparison) -> list[Block]:
    """One model an arm, as a clinician would meet it."""
    blocks = [
        Block(areas(clinical), auroc_table(clinical)),
        Block(differences(clinical), differences_table(clinical) if clinical.differences else None),
        Block(mcnemar(clinical)),
        Block(operating_points(clinical), operating_table(clinical)),
        Block(precision_recall_curves(clinical)),
        Block(calibration(clinical)),
        Block(brier_scores(clinical), calibration_table(clinical)),
        Block(decision_curves(clinical)),
        Block(distributions(clinical)),
    ]
    return [block for block in blocks if block.picture or block.table]


def _groups(clinical: ClinicalComparison) -> list[Block]:
    """For whom it works, and whether the source can be told."""
    blocks = [Block(subgroups(clinical, column), subgroups_table(clinical, column)) for column in clinical.subgroups]
    if clinical.source_probe is not None:
        blocks.append(Block(source_probe(clinical), probe_table(clinical)))
    return blocks


def _external_blocks(data: ReportData) -> list[Block]:
    """The second test set."""
    if data.external is None:
        return []
    clinical = with_images_per_class(data.external.clinical, data.external.comparison)
    return [
        Block(roc_curves(clinical, name="external-roc"), auroc_table(clinical)),
        Block(None, operating_table(clinical)),
        Block(None, calibration_table(clinical)),
        *(Block(None, subgroups_table(clinical, column)) for column in clinical.subgroups),
    ]


def _distillation_blocks(data: ReportData) -> list[Picture]:
    pictures: list[Picture | None] = []
    if data.distilled is not None and data.may_show_images:
        pictures.append(distilled_images(data.distilled))
        if data.evolution:
            pictures.append(evolution(data.evolution, data.distilled))
    stepped = {name: history for name, history in data.histories.items() if history}  # draws take no step
    if stepped:
        pictures.append(curves(stepped))
        pictures += [importance(history, name) for name, history in stepped.items()]
    return [picture for picture in pictures if picture is not None]


def _columns(rows: Any) -> list[str]:
    """Return the keys of all rows in order of first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _trained_on(row: Row, comparison: Comparison) -> str:
    return row_words(row, len(comparison.class_names))


def _arm_of(arm: str, comparison: Comparison) -> str:
    return arm_words(arm, comparison.images_per_class)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
