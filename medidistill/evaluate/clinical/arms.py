"""One arm as a clinician would meet it: one model, its figures on the test split, class by class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from medidistill.evaluate.clinical.average_precision import (
    average_precision,
    bias_corrected_interval,
    weighted_average_precision,
)
from medidistill.evaluate.clinical.brier import brier_losses, brier_parts
from medidistill.evaluate.clinical.calibration import calibration_curve
from medidistill.evaluate.clinical.checks import marked, plain
from medidistill.evaluate.clinical.curves import precision_recall_points, roc_points
from medidistill.evaluate.clinical.decision_curve import decision_curve
from medidistill.evaluate.clinical.delong import auroc_interval, macro_auroc_interval
from medidistill.evaluate.clinical.operating_point import operating_point
from medidistill.evaluate.clinical.recalibration import recalibration
from medidistill.evaluate.intervals import Interval, PatientResamples, percentile_interval
from medidistill.evaluate.weighted import weighted_aurocs
from medidistill.statistics import FloatArray, IntArray

__all__ = ["HISTOGRAM_BINS", "ClinicalSettings", "Model", "ScoredSplit", "arm_figures"]

HISTOGRAM_BINS = 20


@dataclass(frozen=True)
class ClinicalSettings:
    """How the clinical figures are computed; part of every result.

    Args:
        reference: arm that others are judged against.
        margin: of non-inferiority, on the macro and one-vs-rest AUROC; state it before the test split is opened.
        target_specificity: reached on validation.
        confidence: level of all intervals.
        bootstrap: resamples of patients.
        bins: of calibration curves.
        min_patients: smallest subgroup that is shown.
        min_positives: fewest patients of a class whose count is shown in a subgroup.
        seed: decides resamples and simulations.
    """

    reference: str = "full"
    margin: float = 0.05
    target_specificity: float = 0.9
    confidence: float = 0.95
    bootstrap: int = 1000
    bins: int = 10
    min_patients: int = 20
    min_positives: int = 10
    seed: int = 0


@dataclass(frozen=True)
class ScoredSplit:
    """What every model of the comparison is scored on: labels (N,), patients (N,) as 0..P-1, their resamples."""

    labels: IntArray
    patients: list[int]
    class_names: tuple[str, ...]
    resamples: PatientResamples
    val_labels: IntArray | None


@dataclass(frozen=True)
class Model:
    """The mean probabilities of the networks of one arm and architecture: (N, K) on test, (N_val, K) on validation."""

    arm: str
    architecture: str
    networks: int
    seeds: tuple[int, ...]
    training_images: int
    test: FloatArray
    val: FloatArray | None


def arm_figures(model: Model, split: ScoredSplit, settings: ClinicalSettings) -> dict[str, Any]:
    """Return all figures of one model, JSON types; what the data do not define is `{"undefined": reason}`."""
    level = settings.confidence
    losses = brier_losses(split.labels, model.test)
    boot_areas = split.resamples.over(lambda weights: weighted_aurocs(split.labels, model.test, weights))
    boot_losses = split.resamples.over(lambda weights: weights @ losses / weights.sum(axis=1, keepdims=True))
    areas = weighted_aurocs(split.labels, model.test, np.ones((1, len(split.labels))))[0]
    return {
        "arm": model.arm,
        "architecture": model.architecture,
        "networks": model.networks,
        "seeds": list(model.seeds),
        "training_images": model.training_images,
        "macro_auroc": marked(
            lambda: macro_auroc_interval(split.labels, model.test, split.patients, confidence=level),
        ),
        "macro_auroc_bootstrap": plain(percentile_interval(float(areas.mean()), boot_areas.mean(axis=1), level)),
        "brier": plain(percentile_interval(float(losses.sum(axis=1).mean()), boot_losses.sum(axis=1), level)),
        "classes": [
            _class_figures(
                model,
                split,
                settings,
                k,
                percentile_interval(float(areas[k]), boot_areas[:, k], level),
                percentile_interval(float(losses[:, k].mean()), boot_losses[:, k], level),
            )
            for k in range(len(split.class_names))
        ],
    }


def _class_figures(
    model: Model,
    split: ScoredSplit,
    settings: ClinicalSettings,
    k: int,
    area: Interval,
    brier: Interval,
) -> dict[str, Any]:
    truth, p, who, level = split.labels == k, model.test[:, k], split.patients, settings.confidence

    def precision() -> Interval:
        draws = split.resamples.over(lambda weights: weighted_average_precision(truth, p, weights))
        return bias_corrected_interval(average_precision(truth, p), draws, level)

    return {
        "class": split.class_names[k],
        "positives": int(truth.sum()),
        "auroc": marked(lambda: auroc_interval(truth, p, who, confidence=level)),
        "auroc_bootstrap": plain(area),
        "average_precision": marked(precision),
        "prevalence": float(truth.mean()),
        "brier": plain(brier),
        "brier_parts": marked(lambda: brier_parts(truth, p)),
        "calibration": marked(
            lambda: calibration_curve(truth, p, bins=settings.bins, confidence=level, seed=settings.seed),
        ),
        "recalibration": marked(lambda: recalibration(truth, p, who, confidence=level)),
        "roc": marked(lambda: roc_points(truth, p)),
        "precision_recall": marked(lambda: precision_recall_points(truth, p)),
        "decision_curve": marked(lambda: decision_curve(truth, p, who, confidence=level)),
        "operating_point": _operating_point(model, split, settings, k),
        "histogram": {
            "edges": np.linspace(0, 1, HISTOGRAM_BINS + 1).round(6).tolist(),
            "positives": np.histogram(p[truth], HISTOGRAM_BINS, (0, 1))[0].tolist(),
            "negatives": np.histogram(p[~truth], HISTOGRAM_BINS, (0, 1))[0].tolist(),
        },
    }


def _operating_point(model: Model, split: ScoredSplit, settings: ClinicalSettings, k: int) -> Any:
    if model.val is None or split.val_labels is None:
        return {"undefined": "no validation probabilities were kept: a threshold must not be chosen on the test split"}
    compute = partial(
        operating_point,
        split.val_labels == k,
        model.val[:, k],
        split.labels == k,
        model.test[:, k],
        split.patients,
        target=settings.target_specificity,
        confidence=settings.confidence,
    )
    return marked(compute)
