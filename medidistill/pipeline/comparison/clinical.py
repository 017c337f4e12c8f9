"""The clinical comparison of a run: its settings, its subgroups, the source probe, and the files that it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medidistill.config import RunConfig
from medidistill.distilled_set import LabelledImages
from medidistill.evaluate import ArmRun, ResampledScores
from medidistill.evaluate.clinical import (
    ClinicalComparison,
    ClinicalSettings,
    ProbeData,
    age_bands,
    checklist,
    clinical_comparison,
    curves_csv,
    figures_csv,
    subgroups_csv,
)
from medidistill.files import write_json, write_text
from medidistill.pipeline.prepared import PreparedData
from medidistill.pipeline.work import RunContext

__all__ = ["clinical_settings", "write_clinical"]


def clinical_settings(config: RunConfig, arms: Sequence[str]) -> ClinicalSettings:
    """Return what the clinical statistics are asked by this run."""
    rules, asked = config.evaluate, config.evaluate.clinical
    return ClinicalSettings(
        reference=asked.reference or ("full" if "full" in arms else arms[0]),
        margin=asked.margin,
        target_specificity=asked.target_specificity,
        confidence=rules.confidence,
        bootstrap=rules.bootstrap,
        bins=asked.bins,
        min_patients=asked.min_patients,
        min_positives=asked.min_positives,
        seed=config.seed,
    )


def write_clinical(
    run: RunContext,
    data: PreparedData,
    scored: LabelledImages,
    runs: Sequence[ArmRun],
    scores: ResampledScores,
    folder: Path,
) -> ClinicalComparison:
    """Compute the clinical figures of `runs` on the images `scored`; leave JSON, CSV and the checklists in `folder`.

    Args:
        run: in work.
        data: prepared images; thresholds come from validation, the source probe learns from training.
        scored: the images that the probabilities of `runs` belong to: the test split, or an external set.
        runs: cells, with `test_probabilities` of `scored`.
        scores: the same on every draw; its draws of patients are taken here, too.
        folder: where the files go.
    """
    result = clinical_comparison(
        runs,
        scored.labels.numpy(),
        scored.patient_ids,
        scored.class_names,
        settings=clinical_settings(run.config, [one.arm for one in runs]),
        val_labels=data.val.labels.numpy(),
        subgroups=_subgroups(scored),
        resamples=scores.resamples,
        probe=_probe(data, scored) if scored is data.test else None,
    )
    write_json(folder / "clinical.json", result.to_dict())
    write_text(folder / "clinical.csv", figures_csv(result))
    write_text(folder / "curves.csv", curves_csv(result))
    write_text(folder / "subgroups.csv", subgroups_csv(result))
    write_text(folder / "checklist.md", checklist(run.record, result))
    return result


def _subgroups(images: LabelledImages) -> Mapping[str, Sequence[Any]]:
    """Return sex, age band and site of each image, as far as any is known."""
    known: dict[str, Sequence[Any]] = {}
    if any(images.sexes):
        known["sex"] = images.sexes
    if any(age is not None for age in images.ages):
        known["age"] = age_bands(images.ages)
    if any(images.sites):
        known["site"] = images.sites
    return known


def _probe(data: PreparedData, scored: LabelledImages) -> tuple[ProbeData, ProbeData] | None:
    """Return what the source probe looks at: the images as the networks see them; None where no site is known."""
    if not any(data.train.sites) or not any(scored.sites):
        return None

    def part(images: LabelledImages) -> ProbeData:
        pixels = data.normalisation.apply(images.images).mean(dim=1).numpy()
        return ProbeData(pixels, images.labels.numpy(), images.sites, images.patient_ids)

    return part(data.train), part(scored)
