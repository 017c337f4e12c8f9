"""Likelihood ratios of a test at its threshold: how far a result moves the odds of the disease.

    LR+ = sensitivity / (1 - specificity),   LR- = (1 - sensitivity) / specificity

Limits are on the log scale. The variance sums each patient's share of the deviation of the two logarithms; with
one image a patient it is the usual 1/TP - 1/P + 1/FP - 1/N (times P_patients / (P_patients - 1)).

Source: Simel, Samsa, Matchar 1991, Journal of Clinical Epidemiology 44 (intervals).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.evaluate.clinical.checks import UndefinedError, as_binary, as_patients, normal_quantile
from medidistill.evaluate.intervals import Interval

__all__ = ["likelihood_ratio"]


def likelihood_ratio(
    truth: npt.ArrayLike,
    called: npt.ArrayLike,
    patient_ids: Sequence[Any] | None = None,
    *,
    positive: bool = True,
    confidence: float = 0.95,
) -> Interval:
    """Return LR+ (or LR- with `positive=False`) with limits over patients.

    Args:
        truth: (N,) 0/1.
        called: (N,) 0/1, what the test says.
        patient_ids: N identifiers; None treats every image as its own patient.
        positive: LR+ where True, LR- where False.
        confidence: in (0, 1).

    Raises:
        UndefinedError: no positive or negative, or no image in the cell above or below the ratio.
        ConfigError: arguments that do not fit.
    """
    flags, said = as_binary(truth, called)
    quantile = normal_quantile(confidence)
    hit = (said > 0) == positive
    above, below = float(hit[flags].mean()), float(hit[~flags].mean())
    if above == 0 or below == 0:
        name, side = ("LR+", "positive") if positive else ("LR-", "negative")
        lacking = "with" if above == 0 else "without"
        raise UndefinedError(f"{name}: no {side} result among the images {lacking} the disease")
    patients = as_patients(patient_ids, len(flags))
    deviation = np.where(flags, (hit - above) / (above * flags.sum()), -(hit - below) / (below * (~flags).sum()))
    shares = np.bincount(patients, deviation)
    error = (float(shares @ shares) * len(shares) / (len(shares) - 1)) ** 0.5
    ratio = above / below
    return Interval(ratio, float(ratio * np.exp(-quantile * error)), float(ratio * np.exp(quantile * error)))
