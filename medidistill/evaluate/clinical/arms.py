"""One arm as a clinician would meet it: one model, its figures on the test split, class by class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from medidistill.evaluate.clinical.average_precision import (
    average_precision,
    bias_corrected_interval,
    weighted_average_precision,
)
from medidistill.evaluate.clinical.brier import brier_losses, brier_parts
from medidistill.evaluate.clinical.calibration import calibration_curve
from medidistill.evaluate.clinical.checks import or_undefined
from medidistill.evaluate.clinical.curves import precision_recall_points, roc_points
from medidistill.evaluate.clinical.decision_curve import decision_curve
from medidistill.evaluate.clinical.delong import auroc_interval, macro_auroc_interval
from medidistill.evaluate.clinical.operating_point import operating_point
from medidistill.evaluate.clinical.recalibration import recalibration
from medidistill.evaluate.intervals import Interval, PatientResamples, percentile_interval
from medidistill.evaluate.weighted import weighted_aurocs
from medidistill.results.clinical import ArmFigures, ClinicalSettings
from medidistill.results.clinical_figures import ClassFigures, Histogram, OperatingPoint
from medidistill.statistics import FloatArray, IntArray, Undefined

__all__ = ["HISTOGRAM_BINS", "ClinicalSettings", "Model", "ScoredSplit", "arm_figures"]

HISTOGRAM_BINS = 20


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


def arm_figures(model: Model, split: ScoredSplit, settings: ClinicalSettings) -> ArmFigures:
    """Return all figures of one model."""
    level = settings.confidence
    losses = brier_losses(split.labels, model.test)
    boot_areas = split.resamples.over(lambda weights: weighted_aurocs(split.labels, model.test, weights))
    boot_losses = split.resamples.over(lambda weights: weights @ losses / weights.sum(axis=1, keepdims=True))
    areas = weighted_aurocs(split.labels, model.test, np.ones((1, len(split.labels))))[0]
    return ArmFigures(
        arm=model.arm,
        architecture=model.architecture,
        networks=model.networks,
        seeds=model.seeds,
        training_images=model.training_images,
        macro_auroc=or_undefined(
            lambda: macro_auroc_interval(split.labels, model.test, split.patients, confidence=level),
        ),
        macro_auroc_bootstrap=percentile_interval(float(areas.mean()), boot_areas.mean(axis=1), level),
        brier=percentile_interval(float(losses.sum(axis=1).mean()), boot_losses.sum(axis=1), level),
        classes=tuple(
            _class_figures(
                model,
                split,
                settings,
                k,
                percentile_interval(float(areas[k]), boot_areas[:, k], level),
                percentile_interval(float(losses[:, k].mean()), boot_losses[:, k], level),
            )
            for k in range(len(split.class_names))
        ),
    )


def _class_figures(
    model: Model,
    split: ScoredSplit,
    settings: ClinicalSettings,
    k: int,
    area: Interval,
    brier: Interval,
) -> ClassFigures:
    truth, p, who, level = split.labels == k, model.test[:, k], split.patients, settings.confidence

    def precision() -> Interval:
        draws = split.resamples.over(lambda weights: weighted_average_precision(truth, p, weights))
        return bias_corrected_interval(average_precision(truth, p), draws, level)

    return ClassFigures(
        name=split.class_names[k],
        positives=int(truth.sum()),
        auroc=or_undefined(lambda: auroc_interval(truth, p, who, confidence=level)),
        auroc_bootstrap=area,
        average_precision=or_undefined(precision),
        prevalence=float(truth.mean()),
        brier=brier,
        brier_parts=or_undefined(lambda: brier_parts(truth, p)),
        calibration=or_undefined(
            lambda: calibration_curve(truth, p, bins=settings.bins, confidence=level, seed=settings.seed),
        ),
        recalibration=or_undefined(lambda: recalibration(truth, p, who, confidence=level)),
        decision_curve=or_undefined(lambda: decision_curve(truth, p, who, confidence=level)),
        operating_point=_operating_point(model, split, settings, k),
        histogram=Histogram(
            edges=tuple(np.linspace(0, 1, HISTOGRAM_BINS + 1).round(6).tolist()),
            positives=tuple(np.histogram(p[truth], HISTOGRAM_BINS, (0, 1))[0].tolist()),
            negatives=tuple(np.histogram(p[~truth], HISTOGRAM_BINS, (0, 1))[0].tolist()),
        ),
        roc=or_undefined(lambda: roc_points(truth, p)),
        precision_recall=or_undefined(lambda: precision_recall_points(truth, p)),
    )


def _operating_point(
    model: Model, split: ScoredSplit, settings: ClinicalSettings, k: int
) -> OperatingPoint | Undefined:
    if model.val is None or split.val_labels is None:
        return Undefined("no validation probabilities were kept: a threshold must not be chosen on the test split")
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
    return or_undefined(compute)
