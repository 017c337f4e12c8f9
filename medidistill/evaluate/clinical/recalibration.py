"""Calibration intercept and slope: the straight line through the calibration curve on the log-odds scale.

    logit P(y = 1) = a + b logit(p)         slope b: 1 is right, < 1 too extreme, > 1 too timid
    logit P(y = 1) = a + logit(p)           intercept (calibration in the large): 0 is right, < 0 overestimates risk

Fitted by Newton's method without penalty; the variance is the sandwich over patients, so images of one patient
may be correlated. Probabilities of exactly 0 or 1 have no log-odds and are moved inward to 1e-6.

Source: Cox 1958, Biometrika 45; Van Calster et al. 2019, BMC Medicine 17; Liang, Zeger 1986, Biometrika 73 (sandwich).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.evaluate.clinical.checks import UndefinedError, as_patients, as_probabilities, normal_quantile
from medidistill.evaluate.intervals import Interval
from medidistill.results.clinical_figures import Recalibration
from medidistill.statistics import FloatArray

__all__ = ["CLIP", "Recalibration", "recalibration"]

CLIP = 1e-6
_STEPS = 50
_SEPARATED = 30.0  # log-odds that no finite sample supports


def recalibration(
    truth: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    patient_ids: Sequence[Any] | None = None,
    *,
    confidence: float = 0.95,
) -> Recalibration:
    """Return calibration intercept and slope with limits over patients.

    Args:
        truth: (N,) 0/1.
        probabilities: (N,) in [0, 1].
        patient_ids: N identifiers; None treats every image as its own patient.
        confidence: in (0, 1).

    Raises:
        UndefinedError: no positive or negative, probabilities all alike, or positives and negatives separated
            completely, so that the slope has no finite estimate.
        ConfigError: arguments that do not fit.
    """
    from scipy import special

    flags, p = as_probabilities(truth, probabilities)
    quantile = normal_quantile(confidence)
    patients = as_patients(patient_ids, len(flags))
    y, inside = flags.astype(np.float64), np.clip(p, CLIP, 1 - CLIP)
    odds = special.logit(inside)
    if np.ptp(odds) < 1e-9:
        raise UndefinedError("all probabilities are alike: they have no calibration slope")
    if odds[flags].min() >= odds[~flags].max() or odds[flags].max() <= odds[~flags].min():
        raise UndefinedError("the probabilities separate the class completely: the slope has no finite estimate")
    ones = np.ones((len(y), 1))
    line, covariance = _logistic(np.column_stack([ones, odds]), y, np.zeros(len(y)), patients)
    shift, variance = _logistic(ones, y, odds, patients)
    return Recalibration(
        intercept=_around(shift[0], variance[0, 0], quantile),
        slope=_around(line[1], covariance[1, 1], quantile),
        clipped=int((p != inside).sum()),
    )


def _around(value: float, variance: float, quantile: float) -> Interval:
    half = quantile * float(variance) ** 0.5
    return Interval(float(value), float(value) - half, float(value) + half)


def _logistic(
    design: FloatArray, y: FloatArray, offset: FloatArray, patients: npt.NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """Return the maximum-likelihood coefficients and their covariance, clustered by patient."""
    from scipy import special

    beta = np.zeros(design.shape[1])

    def negative_likelihood(at: FloatArray) -> float:
        eta = offset + design @ at
        return float((np.logaddexp(0, eta) - y * eta).sum())

    for _ in range(_STEPS):
        fitted = special.expit(offset + design @ beta)
        hessian = design.T @ (design * (fitted * (1 - fitted))[:, None])
        try:
            step = np.linalg.solve(hessian, design.T @ (y - fitted))
        except np.linalg.LinAlgError as error:
            raise UndefinedError("the recalibration has no unique solution") from error
        size, before = 1.0, negative_likelihood(beta)
        while size > 1e-6 and negative_likelihood(beta + size * step) > before + 1e-12:
            size /= 2
        beta = beta + size * step
        if np.abs(beta).max() > _SEPARATED:
            break
        if np.abs(step).max() < 1e-10:
            scores = np.zeros((int(patients.max()) + 1, design.shape[1]))
            np.add.at(scores, patients, design * (y - special.expit(offset + design @ beta))[:, None])
            bread = np.linalg.inv(hessian)
            clusters = len(scores)
            return beta, bread @ (scores.T @ scores) @ bread * clusters / (clusters - 1)
    raise UndefinedError("the recalibration does not converge: the class is separated almost completely")
