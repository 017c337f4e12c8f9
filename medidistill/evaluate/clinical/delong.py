"""Variance of the AUROC and of the difference of two, without resampling.

The AUROC is the share of (positive, negative) pairs in order, ties counting half. With the placement values

    V10_i = P(a negative scores below positive i),   V01_j = P(a positive scores above negative j)

DeLong's covariance of models r and s is `cov(V10^r, V10^s) / m + cov(V01^r, V01^s) / n`. Placement values come
from midranks in O(N log N) for each model.

**Images of one patient are not independent, and DeLong counts them as if they were: its intervals are then too
narrow.** Give `patient_ids` wherever a patient may have several images. Placement values are then summed within
patients, which adds the covariance of a patient's positives with its own negatives (Obuchowski 1997); with one image
a patient this *is* DeLong. Below about 30 patients on either side neither is to be trusted; the patient
bootstrap of `medidistill.evaluate.intervals` is no better there.

Source: DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44; Sun, Xu 2014, IEEE Signal Processing Letters 21 (midranks);
Obuchowski 1997, Biometrics 53 (clusters); Pepe 2003, section 5.2 (logit interval).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError, as_binary, as_patients, normal_quantile
from medidistill.evaluate.intervals import Interval
from medidistill.results.clinical import PairedDifference
from medidistill.statistics import FloatArray

__all__ = [
    "PairedDifference",
    "auroc_covariance",
    "auroc_difference",
    "auroc_interval",
    "macro_auroc_difference",
    "macro_auroc_interval",
]

_TINY = 1e-12  # of a squared standard error, far below what the smallest resolvable AUROC step gives


def auroc_covariance(
    truth: npt.ArrayLike, scores: npt.ArrayLike, patient_ids: Sequence[Any] | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return the AUROCs of M models on the same images and their covariance.

    Args:
        truth: (N,) 0/1; at least two of each, in at least two patients of each.
        scores: (M, N) finite; higher means positive.
        patient_ids: N identifiers; None treats every image as its own patient.

    Returns:
        AUROCs (M,) and covariance (M, M).

    Raises:
        ConfigError: shapes or values do not fit.
        UndefinedError: fewer than two patients with a positive or with a negative.
    """
    rows = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    flags, _ = as_binary(truth, rows[0])
    if any(row.shape != flags.shape or not np.isfinite(row).all() for row in rows):
        raise ConfigError(f"scores {rows.shape}: must be (M, {len(flags)}) and finite")
    patients = as_patients(patient_ids, len(flags))
    positives, negatives = (_distinct(patients[side]) for side in (flags, ~flags))
    if min(positives, negatives) < 2:
        raise UndefinedError(
            f"{positives} patients with a positive, {negatives} with a negative: the variance needs two of each"
        )
    areas, above, below = _deviations(flags, rows, patients)
    together = int(patients.max()) + 1
    crossed = above @ below.T * together / (together - 1)
    covariance = (
        above @ above.T * positives / (positives - 1)
        + below @ below.T * negatives / (negatives - 1)
        + crossed
        + crossed.T
    )
    return areas, covariance


def _distinct(codes: npt.NDArray[np.int64]) -> int:
    return len(np.unique(codes))


def _deviations(
    flags: npt.NDArray[np.bool_], rows: FloatArray, patients: npt.NDArray[np.int64]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return AUROCs (M,) and each patient's share of their deviation, from positives and negatives, (M, P) each."""
    from scipy import stats

    m, n = int(flags.sum()), int((~flags).sum())
    count = int(patients.max()) + 1
    areas = np.empty(len(rows))
    above, below = np.zeros((2, len(rows), count))
    for r, row in enumerate(rows):
        ranks = stats.rankdata(row)
        v10 = (ranks[flags] - stats.rankdata(row[flags])) / n
        v01 = 1 - (ranks[~flags] - stats.rankdata(row[~flags])) / m
        areas[r] = v10.mean()
        above[r] = np.bincount(patients[flags], v10 - areas[r], count) / m
        below[r] = np.bincount(patients[~flags], v01 - areas[r], count) / n
    return areas, above, below


def auroc_interval(
    truth: npt.ArrayLike,
    scores: npt.ArrayLike,
    patient_ids: Sequence[Any] | None = None,
    *,
    confidence: float = 0.95,
    transform: str = "logit",
) -> Interval:
    """Return the AUROC of one model with its confidence limits.

    Args:
        truth: (N,) 0/1.
        scores: (N,) finite.
        patient_ids: N identifiers; None treats every image as its own patient.
        confidence: in (0, 1).
        transform: `logit` keeps the limits inside (0, 1) and covers better near 1; `none` is area +- z se.

    Raises:
        UndefinedError: an area of exactly 0 or 1, or another zero variance: no interval follows from these data.
        ConfigError: arguments that do not fit.
    """
    areas, covariance = auroc_covariance(truth, np.asarray(scores)[None], patient_ids)
    return _limits(float(areas[0]), float(covariance[0, 0]), confidence, transform)


def _limits(area: float, variance: float, confidence: float, transform: str) -> Interval:
    from scipy import special

    quantile = normal_quantile(confidence)
    if transform not in ("logit", "none"):
        raise ConfigError(f"transform={transform!r}: must be 'logit' or 'none'")
    if variance < _TINY:
        raise UndefinedError(f"AUROC {area:.3f} with zero variance: these images separate too well to bound it", area)
    error = variance**0.5
    if transform == "none":
        return Interval(area, area - quantile * error, area + quantile * error)
    centre, half = special.logit(area), quantile * error / (area * (1 - area))
    return Interval(area, float(special.expit(centre - half)), float(special.expit(centre + half)))


def auroc_difference(
    truth: npt.ArrayLike,
    scores: npt.ArrayLike,
    minus: npt.ArrayLike,
    patient_ids: Sequence[Any] | None = None,
    *,
    confidence: float = 0.95,
) -> PairedDifference:
    """Return AUROC(`scores`) - AUROC(`minus`) on the same images, with interval and two-sided p value.

    Raises:
        UndefinedError: the models order the images so alike that the difference has no variance.
        ConfigError: arguments that do not fit.
    """
    areas, covariance = auroc_covariance(truth, np.stack([np.asarray(scores), np.asarray(minus)]), patient_ids)
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    return _difference(float(areas[0] - areas[1]), variance, confidence)


def _difference(gap: float, variance: float, confidence: float) -> PairedDifference:
    from scipy import stats

    quantile = normal_quantile(confidence)
    if variance < _TINY:
        raise UndefinedError(f"difference {gap:+.3f} with zero variance: the models order these images alike", gap)
    error = variance**0.5
    p_value = float(2 * stats.norm.sf(abs(gap) / error))
    return PairedDifference(gap, gap - quantile * error, gap + quantile * error, error, gap / error, p_value)


def _macro(
    labels: npt.ArrayLike, probabilities: Sequence[npt.ArrayLike], patient_ids: Sequence[Any] | None
) -> tuple[FloatArray, FloatArray]:
    """Return macro AUROCs (M,) and each patient's share of their deviation (M, P)."""
    y = np.asarray(labels)
    models = np.stack([np.asarray(one, dtype=np.float64) for one in probabilities])
    if models.ndim != 3 or models.shape[1] != len(y):
        raise ConfigError(f"probabilities {models.shape[1:]}: must be ({len(y)}, K)")
    patients = as_patients(patient_ids, len(y))
    areas, shares = np.zeros(len(models)), np.zeros((len(models), int(patients.max()) + 1))
    for k in range(models.shape[2]):
        flags, _ = as_binary(y == k, models[0, :, k])
        if min(_distinct(patients[flags]), _distinct(patients[~flags])) < 2:
            raise UndefinedError(f"class {k}: fewer than two patients with it or without it")
        area, above, below = _deviations(flags, models[:, :, k], patients)
        areas += area / models.shape[2]
        shares += (above + below) / models.shape[2]
    return areas, shares


def _sandwich(shares: FloatArray) -> float:
    return float(shares @ shares) * len(shares) / (len(shares) - 1)


def macro_auroc_interval(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    patient_ids: Sequence[Any] | None = None,
    *,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean of the K one-vs-rest AUROCs with logit limits.

    The K areas share their images, so their errors are correlated: each patient's deviations are averaged over the
    classes first and squared after.

    Args:
        labels: (N,) integers in 0..K-1.
        probabilities: (N, K).
        patient_ids: N identifiers; None treats every image as its own patient.
        confidence: in (0, 1).

    Raises:
        UndefinedError: a class in fewer than two patients, or zero variance.
        ConfigError: arguments that do not fit.
    """
    areas, shares = _macro(labels, [probabilities], patient_ids)
    return _limits(float(areas[0]), _sandwich(shares[0]), confidence, "logit")


def macro_auroc_difference(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    minus: npt.ArrayLike,
    patient_ids: Sequence[Any] | None = None,
    *,
    confidence: float = 0.95,
) -> PairedDifference:
    """Return the difference of two macro AUROCs on the same images; arguments as `macro_auroc_interval`."""
    areas, shares = _macro(labels, [probabilities, minus], patient_ids)
    return _difference(float(areas[0] - areas[1]), _sandwich(shares[0] - shares[1]), confidence)
