"""The clinical figures of one model and class: curves, scores, a threshold. Probabilities and shares are in [0, 1].

`medidistill.evaluate.clinical` computes them, one statistic a file, and says what each means.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from medidistill.statistics import Interval, Undefined

__all__ = [
    "BrierParts",
    "CalibrationBin",
    "CalibrationCurve",
    "ClassFigures",
    "Counts",
    "Curve",
    "DecisionCurve",
    "Histogram",
    "OperatingPoint",
    "Recalibration",
]

NOT_KEPT = Undefined("the version that made this comparison did not keep it")


@dataclass(frozen=True)
class Curve:
    """`y` over `x`, equally long."""

    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class BrierParts:
    """`brier` = `miscalibration` + `refinement`; `refinement` = `uncertainty` - `discrimination`."""

    brier: float
    miscalibration: float
    refinement: float
    discrimination: float
    uncertainty: float


@dataclass(frozen=True)
class CalibrationBin:
    """One point of the curve: `images` images of mean probability `predicted`, of which `observed` are positive."""

    images: int
    predicted: float
    observed: Interval


@dataclass(frozen=True)
class CalibrationCurve:
    """The curve and its one-number summaries.

    Args:
        bins: from low to high probability.
        ece: expected calibration error over these bins, biased upward.
        ece_if_calibrated: its mean for a perfectly calibrated model.
        ece_if_calibrated_95: its 95 % quantile for a perfectly calibrated model.
        squared_error_debiased: near zero or negative for a calibrated model.
    """

    bins: tuple[CalibrationBin, ...]
    ece: float
    ece_if_calibrated: float
    ece_if_calibrated_95: float
    squared_error_debiased: float


@dataclass(frozen=True)
class Recalibration:
    """`intercept` of the model with slope 1, and `slope` of the model with both; `clipped` probabilities of 0 or 1."""

    intercept: Interval
    slope: Interval
    clipped: int


@dataclass(frozen=True)
class DecisionCurve:
    """One value a threshold; `low` and `high` are pointwise limits of the net benefit over patients.

    Net benefit is counted in true positives per patient: at most the prevalence, without a lower bound.
    """

    thresholds: tuple[float, ...]
    net_benefit: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    treat_all: tuple[float, ...]
    prevalence: float


@dataclass(frozen=True)
class Counts:
    """Images at a threshold: true positives, false negatives, false positives, true negatives."""

    tp: int
    fn: int
    fp: int
    tn: int

    def items(self) -> list[tuple[str, int]]:
        """Return (name, count) of each."""
        return [(one.name, getattr(self, one.name)) for one in fields(self)]


@dataclass(frozen=True)
class OperatingPoint:
    """One threshold on the test split.

    Args:
        threshold: an image is called positive where its score is above it.
        target_specificity: asked for on validation.
        val_specificity: reached on validation, at or above the target.
        val_negatives: images that decided the threshold.
        counts: on test.
        sensitivity: Clopper-Pearson over images.
        specificity: Clopper-Pearson over images.
        sensitivity_by_patient: limits over patients.
        specificity_by_patient: limits over patients.
        lr_positive: likelihood ratio, >= 0; limits over patients.
        lr_negative: likelihood ratio, >= 0; limits over patients.
    """

    threshold: float
    target_specificity: float
    val_specificity: float
    val_negatives: int
    counts: Counts
    sensitivity: Interval | Undefined
    specificity: Interval | Undefined
    sensitivity_by_patient: Interval | Undefined
    specificity_by_patient: Interval | Undefined
    lr_positive: Interval | Undefined
    lr_negative: Interval | Undefined


@dataclass(frozen=True)
class Histogram:
    """Images by predicted probability: B counts with and without the finding, between B + 1 `edges`."""

    edges: tuple[float, ...]
    positives: tuple[int, ...]
    negatives: tuple[int, ...]


@dataclass(frozen=True)
class ClassFigures:
    """One model on one class against the rest.

    Args:
        name: of the class.
        positives: test images of it.
        auroc: DeLong, patients as clusters.
        auroc_bootstrap: percentile interval over patients.
        average_precision: bias-corrected interval over patients; chance level is `prevalence`.
        prevalence: share of the class among the test images.
        brier: mean squared error, in [0, 1].
        brier_parts: its decomposition.
        calibration: curve and calibration error.
        recalibration: intercept and slope.
        decision_curve: net benefit.
        operating_point: at the target specificity on validation.
        histogram: predicted probabilities.
        roc: sensitivity over 1 - specificity; earlier versions kept no curves.
        precision_recall: precision over sensitivity; likewise.
    """

    name: str = field(metadata={"json": "class"})
    positives: int
    auroc: Interval | Undefined
    auroc_bootstrap: Interval
    average_precision: Interval | Undefined
    prevalence: float
    brier: Interval
    brier_parts: BrierParts | Undefined
    calibration: CalibrationCurve | Undefined
    recalibration: Recalibration | Undefined
    decision_curve: DecisionCurve | Undefined
    operating_point: OperatingPoint | Undefined
    histogram: Histogram
    roc: Curve | Undefined = NOT_KEPT
    precision_recall: Curve | Undefined = NOT_KEPT
