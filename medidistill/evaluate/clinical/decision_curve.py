"""Decision curve: what acting on the model is worth, in true positives per patient, at each threshold probability.

    net benefit(t) = TP / N - FP / N  t / (1 - t)            acting on everyone with p >= t
    treat all      = prevalence - (1 - prevalence) t / (1 - t),    treat none = 0

t / (1 - t) is the exchange rate: a clinician who acts at t = 10 % accepts nine unneeded actions for one needed.
A model is useful where its curve lies above both reference lines; thresholds that no clinician would use do not count.
The prevalence of the test images decides the height of every curve: give `prevalence` where the test split
was enriched (then sensitivity and specificity are kept, and the shares of the ill and the well are replaced).

Source: Vickers, Elkin 2006, Medical Decision Making 26; Vickers, Van Calster, Steyerberg 2019, Diagn. Progn. Res. 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import as_patients, as_probabilities, normal_quantile
from medidistill.results.clinical_figures import DecisionCurve

__all__ = ["THRESHOLDS", "DecisionCurve", "decision_curve"]

THRESHOLDS = tuple(round(0.01 * step, 2) for step in range(1, 100, 2))


def decision_curve(
    truth: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    patient_ids: Sequence[Any] | None = None,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    prevalence: float | None = None,
    confidence: float = 0.95,
) -> DecisionCurve:
    """Return the net benefit of one class against the rest.

    Args:
        truth: (N,) 0/1.
        probabilities: (N,) in [0, 1].
        patient_ids: N identifiers; None treats every image as its own patient.
        thresholds: probabilities at which one would act, each in (0, 1).
        prevalence: of the disease where the model is to be used; None takes that of the images.
        confidence: of the pointwise limits.

    Raises:
        UndefinedError: no positive or no negative.
        ConfigError: a threshold or the prevalence outside (0, 1), shapes that do not fit.
    """
    flags, p = as_probabilities(truth, probabilities)
    at = np.asarray(thresholds, dtype=np.float64)
    if at.size == 0 or at.min() <= 0 or at.max() >= 1:
        raise ConfigError("thresholds: each must be in (0, 1), and there must be one")
    if prevalence is not None and not 0 < prevalence < 1:
        raise ConfigError(f"prevalence={prevalence}: must be in (0, 1)")
    patients = as_patients(patient_ids, len(flags))
    rate = at / (1 - at)
    ill = float(flags.mean()) if prevalence is None else prevalence
    called = p[:, None] >= at
    hits, alarms = called[flags].mean(axis=0), called[~flags].mean(axis=0)
    benefit = ill * hits - (1 - ill) * alarms * rate
    if prevalence is None:
        # the share of the ill varies with the patients too
        deviation = called * np.where(flags[:, None], 1.0, -rate) - benefit
    else:
        weight = np.where(flags, ill / flags.mean(), (1 - ill) / (~flags).mean())
        deviation = weight[:, None] * np.where(flags[:, None], called - hits, -rate * (called - alarms))
    shares = np.zeros((int(patients.max()) + 1, len(at)))
    np.add.at(shares, patients, deviation / len(flags))
    error = np.sqrt((shares**2).sum(axis=0) * len(shares) / (len(shares) - 1))
    half = normal_quantile(confidence) * error
    return DecisionCurve(
        thresholds=tuple(at.tolist()),
        net_benefit=tuple(benefit.tolist()),
        low=tuple((benefit - half).tolist()),
        high=tuple((benefit + half).tolist()),
        treat_all=tuple((ill - (1 - ill) * rate).tolist()),
        prevalence=ill,
    )
