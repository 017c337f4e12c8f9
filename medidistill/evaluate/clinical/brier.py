"""Brier score, and how much of it is miscalibration and how much is lack of knowledge.

    per class     B = mean (p - y)^2                 in [0, 1]
    multi-class   B = mean sum_k (p_k - y_k)^2       in [0, 2], the sum of the K per-class scores

Decomposition of one class: with p* the isotonic (monotone, least-squares) recalibration of p on these images,

    B = miscalibration + refinement,  miscalibration = B(p) - B(p*),  refinement = B(p*) = uncertainty - discrimination

and uncertainty = prevalence (1 - prevalence). It is exact and needs no bins. The recalibration is fitted to the images
that it is scored on, so miscalibration is somewhat too large and refinement too small in small samples.

Source: Brier 1950, Monthly Weather Review 78; Murphy 1973, J. Applied Meteorology 12;
Dimitriadis, Gneiting, Jordan 2021, PNAS 118 (the isotonic version).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import as_probabilities
from medidistill.evaluate.metrics import check_scorable
from medidistill.results.clinical_figures import BrierParts
from medidistill.statistics import FloatArray

__all__ = ["BrierParts", "brier_losses", "brier_parts", "brier_score"]


def brier_losses(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> FloatArray:
    """Return the squared error of each image and class, (N, K); rows must be probabilities that add up to 1.

    Raises:
        ConfigError: no valid labels and probabilities, or rows outside the simplex by more than 1e-3.
    """
    y, p = check_scorable(labels, probabilities)
    if p.min() < 0 or np.abs(p.sum(axis=1) - 1).max() > 1e-3:
        raise ConfigError("probabilities: every row must be >= 0 and add up to 1")
    losses: FloatArray = (p - np.eye(p.shape[1])[y]) ** 2
    return losses


def brier_score(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Return the multi-class Brier score, in [0, 2]; 0 is perfect."""
    return float(brier_losses(labels, probabilities).sum(axis=1).mean())


def brier_parts(truth: npt.ArrayLike, probabilities: npt.ArrayLike) -> BrierParts:
    """Return the Brier score of one class against the rest, decomposed.

    Args:
        truth: (N,) 0/1.
        probabilities: (N,) in [0, 1].

    Raises:
        UndefinedError: no positive or no negative.
        ConfigError: shapes or values do not fit.
    """
    from sklearn.isotonic import isotonic_regression

    flags, p = as_probabilities(truth, probabilities)
    y = flags.astype(np.float64)
    _, place, counts = np.unique(p, return_inverse=True, return_counts=True)
    # equal probabilities get one recalibrated value, so they enter as one weighted point
    rates = np.bincount(place, y) / counts
    fitted = np.asarray(isotonic_regression(rates, sample_weight=counts.astype(np.float64)))[place]
    brier, refinement = float(((p - y) ** 2).mean()), float(((fitted - y) ** 2).mean())
    uncertainty = float(y.mean() * (1 - y.mean()))
    return BrierParts(brier, brier - refinement, refinement, uncertainty - refinement, uncertainty)
