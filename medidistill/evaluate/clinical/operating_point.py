"""Sensitivity at a fixed specificity, the threshold chosen on validation and carried to the test split unchanged.

A threshold chosen on the test split meets its specificity there by construction, and the sensitivity beside it is
too good. Chosen on validation, the specificity on test is a measured figure with limits of its own: read both.
The limits take the threshold as given; the luck of the validation split that chose it is not in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError, as_binary, as_patients, or_undefined
from medidistill.evaluate.clinical.likelihood import likelihood_ratio
from medidistill.evaluate.clinical.proportions import clopper_pearson, patient_proportion
from medidistill.results.clinical_figures import Counts, OperatingPoint

__all__ = ["OperatingPoint", "operating_point", "threshold_at_specificity"]


def threshold_at_specificity(truth: npt.ArrayLike, scores: npt.ArrayLike, target: float) -> float:
    """Return the smallest observed threshold t with share(negatives <= t) >= `target`; positive is score > t.

    Raises:
        UndefinedError: no positive or negative, or so few negatives that `target` cannot be told from 1.
        ConfigError: `target` outside (0, 1).
    """
    flags, s = as_binary(truth, scores)
    if not 0 < target < 1:
        raise ConfigError(f"target specificity {target}: must be in (0, 1)")
    negatives = np.sort(s[~flags])
    allowed = int(np.floor((1 - target) * len(negatives) + 1e-9))
    if allowed < 1:
        raise UndefinedError(
            f"specificity {target:g} is not resolvable with {len(negatives)} validation negatives: needs "
            f"{int(np.ceil(1 / (1 - target) - 1e-9))}"
        )
    return float(negatives[len(negatives) - 1 - allowed])


def operating_point(
    val_truth: npt.ArrayLike,
    val_scores: npt.ArrayLike,
    truth: npt.ArrayLike,
    scores: npt.ArrayLike,
    patient_ids: Sequence[Any] | None = None,
    *,
    target: float = 0.9,
    confidence: float = 0.95,
) -> OperatingPoint:
    """Choose the threshold on validation and measure it on test.

    Args:
        val_truth: (N_val,) 0/1.
        val_scores: (N_val,) finite.
        truth: (N,) 0/1 of the test images.
        scores: (N,) finite, of the same model.
        patient_ids: N identifiers of the test images; None treats every image as its own patient.
        target: specificity to reach on validation, in (0, 1).
        confidence: of all limits.

    Raises:
        UndefinedError: a split lacks positives or negatives, or validation cannot resolve `target`.
        ConfigError: arguments that do not fit.
    """
    threshold = threshold_at_specificity(val_truth, val_scores, target)
    flags, s = as_binary(truth, scores)
    val_flags, v = as_binary(val_truth, val_scores)
    patients = as_patients(patient_ids, len(flags))
    called = s > threshold
    tp, fp = int(called[flags].sum()), int(called[~flags].sum())
    m, n = int(flags.sum()), int((~flags).sum())
    return OperatingPoint(
        threshold=threshold,
        target_specificity=target,
        val_specificity=float((v[~val_flags] <= threshold).mean()),
        val_negatives=int((~val_flags).sum()),
        counts=Counts(tp=tp, fn=m - tp, fp=fp, tn=n - fp),
        sensitivity=or_undefined(lambda: clopper_pearson(tp, m, confidence)),
        specificity=or_undefined(lambda: clopper_pearson(n - fp, n, confidence)),
        sensitivity_by_patient=or_undefined(
            lambda: patient_proportion(called[flags], _names(patients[flags]), confidence),
        ),
        specificity_by_patient=or_undefined(
            lambda: patient_proportion(~called[~flags], _names(patients[~flags]), confidence),
        ),
        lr_positive=or_undefined(lambda: likelihood_ratio(flags, called, _names(patients), confidence=confidence)),
        lr_negative=or_undefined(
            lambda: likelihood_ratio(flags, called, _names(patients), positive=False, confidence=confidence)
        ),
    )


def _names(codes: npt.NDArray[np.int64]) -> list[int]:
    names: list[int] = codes.tolist()
    return names
