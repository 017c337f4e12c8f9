"""What a model is worth for one purpose: a finding, a threshold, a prevalence, a least sensitivity.

Sensitivity and specificity are measured on the test patients. Predictive values, missed cases and false alarms follow
from them by Bayes' rule at the prevalence of the place where the model is to be used; the mix of a test set, which is
often half ill, says nothing about that. Limits of predictive values take sensitivity and specificity each at the level
1 - (1 - confidence) / 2, so that both hold at once: they are not too narrow.

The model of all real images has a threshold of its own: where it reaches on validation the specificity of the other.

Source: Altman, Bland 1994, BMJ 309 (predictive values and prevalence); Rao, Scott 1992 (limits by patient).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError, as_patients, as_probabilities
from medidistill.evaluate.clinical.proportions import clopper_pearson, patient_proportion
from medidistill.evaluate.intervals import Interval
from medidistill.results.clinical_figures import Counts
from medidistill.statistics import BoolArray

__all__ = [
    "PurposeFigures",
    "matched_threshold",
    "per_thousand",
    "predictive_values",
    "purpose_figures",
    "sensitivity_difference",
    "threshold_at_sensitivity",
]


@dataclass(frozen=True)
class PurposeFigures:
    """One threshold, as the place where the model is used would meet it.

    Args:
        threshold: an image is called positive where its probability is above it.
        prevalence: share of the finding that predictive values are for.
        patients_with: test patients with an image of the finding.
        patients_without: test patients with an image of another class.
        counts: images.
        sensitivity: limits over patients.
        specificity: limits over patients.
        ppv: share of positive results that are right; None where no result is positive.
        npv: share of negative results that are right; None where no result is negative.
        missed: cases among 1,000 people that are not found.
        false_alarms: people among 1,000 without the finding that are called.
    """

    threshold: float
    prevalence: float
    patients_with: int
    patients_without: int
    counts: Counts
    sensitivity: Interval
    specificity: Interval
    ppv: Interval | None
    npv: Interval | None
    missed: Interval
    false_alarms: Interval


def purpose_figures(
    truth: npt.ArrayLike,
    scores: npt.ArrayLike,
    patient_ids: Sequence[Any] | npt.NDArray[Any] | None,
    *,
    threshold: float,
    prevalence: float,
    confidence: float = 0.95,
) -> PurposeFigures:
    """Return what a threshold means at a prevalence.

    Args:
        truth: (N,) 0/1 of the test images.
        scores: (N,) probabilities of the finding.
        patient_ids: N identifiers; None treats every image as its own patient.
        threshold: in [0, 1].
        prevalence: in (0, 1).
        confidence: of all limits, in (0, 1).

    Raises:
        UndefinedError: no positive or no negative.
        ConfigError: arguments that do not fit.
    """
    flags, s = as_probabilities(truth, scores)
    if not 0 <= threshold <= 1 or not 0 < prevalence < 1:
        raise ConfigError(f"threshold={threshold}, prevalence={prevalence}: must be in [0, 1] and in (0, 1)")
    patients = as_patients(patient_ids, len(flags))
    called = s > threshold
    strict = 1 - (1 - confidence) / 2
    sensitivity, specificity = (_proportion(hits, patients[side], confidence) for hits, side in _sides(flags, called))
    both = [_proportion(hits, patients[side], strict) for hits, side in _sides(flags, called)]
    ppv, npv = predictive_values(sensitivity.estimate, specificity.estimate, prevalence)
    low = predictive_values(both[0].low, both[1].low, prevalence)
    high = predictive_values(both[0].high, both[1].high, prevalence)
    tp, fp = int(called[flags].sum()), int(called[~flags].sum())
    return PurposeFigures(
        threshold=threshold,
        prevalence=prevalence,
        patients_with=len(np.unique(patients[flags])),
        patients_without=len(np.unique(patients[~flags])),
        counts=Counts(tp=tp, fn=int(flags.sum()) - tp, fp=fp, tn=int((~flags).sum()) - fp),
        sensitivity=sensitivity,
        specificity=specificity,
        ppv=_span(ppv, low[0], high[0]),
        npv=_span(npv, low[1], high[1]),
        missed=per_thousand(sensitivity, prevalence),
        false_alarms=per_thousand(specificity, 1 - prevalence),
    )


def _sides(flags: BoolArray, called: BoolArray) -> tuple[tuple[BoolArray, BoolArray], tuple[BoolArray, BoolArray]]:
    return (called[flags], flags), (~called[~flags], ~flags)


def _proportion(hits: BoolArray, patients: npt.NDArray[np.int64], confidence: float) -> Interval:
    """Return a share with limits over patients: exact where each has one image, or where all or none are hit."""
    count = len(np.unique(patients))
    if count == len(hits):
        return clopper_pearson(int(hits.sum()), count, confidence)
    try:
        return patient_proportion(hits, patients.tolist(), confidence)
    except UndefinedError:
        share = float(hits.mean())
        limits = clopper_pearson(round(share * count), count, confidence)
        return Interval(share, min(share, limits.low), max(share, limits.high))


def _span(estimate: float | None, low: float | None, high: float | None) -> Interval | None:
    if estimate is None:
        return None
    # sensitivity 0 beside specificity 1 leaves the share of right results open at that end
    return Interval(estimate, 0.0 if low is None else low, 1.0 if high is None else high)


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> tuple[float | None, float | None]:
    """Return the positive and the negative predictive value; None where there is no such result."""
    found, alarmed = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
    cleared, missed = (1 - prevalence) * specificity, prevalence * (1 - sensitivity)
    ppv = found / (found + alarmed) if found + alarmed > 0 else None
    npv = cleared / (cleared + missed) if cleared + missed > 0 else None
    return ppv, npv


def per_thousand(right: Interval, share: float) -> Interval:
    """Return how many of 1,000 people are judged wrongly, of whom `share` are concerned and `right` judged rightly."""
    return Interval(*(1000 * share * (1 - value) for value in (right.estimate, right.high, right.low)))


def threshold_at_sensitivity(truth: npt.ArrayLike, scores: npt.ArrayLike, least: float) -> float:
    """Return the largest threshold t on validation with share(positives > t) >= `least`.

    Raises:
        UndefinedError: no positive or no negative.
        ConfigError: `least` outside (0, 1], or scores that are no probabilities.
    """
    flags, s = as_probabilities(truth, scores)
    if not 0 < least <= 1:
        raise ConfigError(f"least sensitivity {least}: must be in (0, 1]")
    positives = np.sort(s[flags])[::-1]
    needed = int(np.ceil(least * len(positives) - 1e-9))
    # just below the score of the last one that must be found
    return float(max(0.0, np.nextafter(positives[needed - 1], -1.0)))


def matched_threshold(truth: npt.ArrayLike, scores: npt.ArrayLike, threshold: float, other: npt.ArrayLike) -> float:
    """Return the threshold at which another model has the specificity that this one has at `threshold`.

    Args:
        truth: (N_val,) 0/1 of the validation images.
        scores: (N_val,) of this model.
        threshold: of this model.
        other: (N_val,) of the other model.

    Returns:
        The smallest observed threshold with at least that specificity; below every score where it is 0.

    Raises:
        UndefinedError: no positive or no negative.
        ConfigError: arguments that do not fit.
    """
    flags, s = as_probabilities(truth, scores)
    _, theirs = as_probabilities(truth, other)
    kept = int((s[~flags] <= threshold).sum())
    return -1.0 if kept == 0 else float(np.sort(theirs[~flags])[kept - 1])


def sensitivity_difference(
    called: npt.ArrayLike,
    called_there: npt.ArrayLike,
    patient_ids: Sequence[Any] | npt.NDArray[Any] | None,
    confidence: float = 0.95,
) -> Interval:
    """Return sensitivity - other sensitivity on the same images of the finding, limits over patients.

    Args:
        called: (N,) 0/1, what one model says of the N images with the finding.
        called_there: (N,) 0/1, what the other says.
        patient_ids: N identifiers; None treats every image as its own patient.
        confidence: in (0, 1).

    Raises:
        UndefinedError: fewer than two patients, or the same difference in every patient.
        ConfigError: shapes or levels that do not fit.
    """
    from scipy import stats

    one, other = np.asarray(called, dtype=np.float64), np.asarray(called_there, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape or not 0 < confidence < 1:
        raise ConfigError(f"calls {one.shape} and {other.shape}, confidence={confidence}: must be (N,), in (0, 1)")
    patients = as_patients(patient_ids, len(one))
    count = len(np.unique(patients))
    if count < 2:
        raise UndefinedError(f"{count} patients with the finding: limits over patients need two")
    gaps = one - other
    mean = float(gaps.mean())
    shares = np.bincount(patients, gaps - mean) / len(gaps)
    variance = float(shares @ shares) * count / (count - 1)
    if variance < 1e-15:
        raise UndefinedError(f"the sensitivities differ by {mean:+.3f} in every patient: no limits", mean)
    half = float(stats.t.ppf(0.5 + confidence / 2, count - 1)) * variance**0.5
    return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half))
