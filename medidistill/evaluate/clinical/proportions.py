"""Proportions such as sensitivity: exact limits for independent images, sandwich limits for images of patients.

Clopper-Pearson never covers less than it says, but counts every image as a patient. Where patients have several images,
the second interval is the honest one: the variance of the ratio sum(hits) / sum(images) by patients, on the logit
scale, with a t quantile at (patients - 1).

Source: Clopper, Pearson 1934, Biometrika 26; Rao, Scott 1992, Biometrics 48 (ratio of cluster totals).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError, as_patients
from medidistill.statistics import Interval, clopper_pearson_limits

__all__ = ["clopper_pearson", "patient_proportion"]


def clopper_pearson(hits: int, images: int, confidence: float = 0.95) -> Interval:
    """Return hits / images with exact binomial limits.

    Args:
        hits: in 0..images.
        images: independent ones, >= 1.
        confidence: in (0, 1).

    Raises:
        UndefinedError: no image.
        ConfigError: `hits` or `confidence` outside the range.
    """
    if images == 0:
        raise UndefinedError("a proportion of no images")
    low, high = clopper_pearson_limits(hits, images, confidence)
    return Interval(hits / images, low, high)


def patient_proportion(
    hits: npt.ArrayLike, patient_ids: Sequence[Any] | None = None, confidence: float = 0.95
) -> Interval:
    """Return the share of `hits` with limits whose unit is the patient.

    Args:
        hits: (N,) 0/1, one an image.
        patient_ids: N identifiers; None treats every image as its own patient.
        confidence: in (0, 1).

    Raises:
        UndefinedError: no image, fewer than two patients, or no variation between patients (all or none hit): the
            patients then say nothing about the spread, and `clopper_pearson` of the number of patients is what is left.
        ConfigError: arguments that do not fit.
    """
    from scipy import special, stats

    values = np.asarray(hits, dtype=np.float64)
    patients = as_patients(patient_ids, len(values))
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence}: must be in (0, 1)")
    if len(np.unique(patients)) < 2:
        raise UndefinedError(f"{len(np.unique(patients))} patients: limits over patients need two")
    share = float(values.mean())
    deviations = np.bincount(patients, values - share) / len(values)
    count = len(deviations)
    variance = float(deviations @ deviations) * count / (count - 1)
    if variance < 1e-15:
        raise UndefinedError(f"share {share:.3f} without variation between patients: no limits over patients", share)
    half = float(stats.t.ppf(0.5 + confidence / 2, count - 1)) * variance**0.5 / (share * (1 - share))
    centre = float(special.logit(share))
    return Interval(share, float(special.expit(centre - half)), float(special.expit(centre + half)))
