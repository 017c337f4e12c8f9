"""Calibration of one class against the rest: do 20 of 100 patients who are told "20 %" have the disease?

Curve: bins of (nearly) equal numbers of images, images of equal probability never parted. Per bin the mean
probability p_b, the observed share o_b and its Clopper-Pearson limits.

    ECE      = sum_b n_b / N |o_b - p_b|            always > 0 in a finite sample, also for a perfect model
    squared  = sum_b n_b / N [ (o_b - p_b)^2 - o_b (1 - o_b) / (n_b - 1) ]      unbiased up to binning, may be < 0

so the ECE comes with what it would be for a perfectly calibrated model of these very probabilities (mean and 95 %
quantile over simulated labels, images taken as independent). An ECE below that quantile shows no miscalibration.

Source: Brocker, Smith 2007, Weather and Forecasting 22 (simulated reference); Kumar, Liang, Ma 2019, NeurIPS
(debiased squared error); Nixon et al. 2019, CVPR workshops (equal-mass bins).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError, as_probabilities
from medidistill.evaluate.clinical.proportions import clopper_pearson
from medidistill.results.clinical_figures import CalibrationBin, CalibrationCurve
from medidistill.seeding import derive_seed
from medidistill.statistics import IntArray

__all__ = ["CalibrationBin", "CalibrationCurve", "calibration_curve", "equal_mass_bins"]


def equal_mass_bins(probabilities: npt.ArrayLike, bins: int) -> IntArray:
    """Return the bin of each image, 0..B-1 from low to high, B <= `bins`; equal probabilities share a bin.

    A run of equal values goes to the bin of its middle, so that ties move the borders by as little as possible.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if bins < 2:
        raise ConfigError(f"bins={bins}: must be >= 2")
    _, place, counts = np.unique(p, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    wanted = np.minimum((middle * bins / len(p)).astype(np.int64), bins - 1)
    found: IntArray = np.unique(wanted, return_inverse=True)[1].astype(np.int64)[place]
    return found


def calibration_curve(
    truth: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    bins: int = 10,
    confidence: float = 0.95,
    simulations: int = 500,
    seed: int = 0,
) -> CalibrationCurve:
    """Return the calibration curve with its summaries.

    Args:
        truth: (N,) 0/1.
        probabilities: (N,) in [0, 1].
        bins: at most so many, >= 2.
        confidence: of the limits of a bin; they take images as independent.
        simulations: for the reference of a perfectly calibrated model.
        seed: decides the simulated labels.

    Raises:
        UndefinedError: no positive or negative, all probabilities alike, fewer than two images in a bin.
        ConfigError: shapes or values do not fit.
    """
    flags, p = as_probabilities(truth, probabilities)
    place = equal_mass_bins(p, bins)
    counts = np.bincount(place)
    if len(counts) < 2 or counts.min() < 2:
        raise UndefinedError(
            f"{len(np.unique(p))} distinct probabilities of {len(p)} images make bins of {counts.min()} to "
            f"{counts.max()} images: needs two bins of two; ask for fewer bins"
        )
    predicted = np.bincount(place, p) / counts
    observed = np.bincount(place, flags) / counts
    shares = counts / len(p)
    rng = np.random.default_rng(derive_seed(seed, "calibration"))
    reference = np.array(
        [shares @ np.abs(np.bincount(place, rng.random(len(p)) < p) / counts - predicted) for _ in range(simulations)]
    )
    squared = shares @ ((observed - predicted) ** 2 - observed * (1 - observed) / (counts - 1))
    return CalibrationCurve(
        bins=tuple(
            CalibrationBin(int(n), float(mean), clopper_pearson(round(rate * n), int(n), confidence))
            for n, mean, rate in zip(counts, predicted, observed, strict=True)
        ),
        ece=float(shares @ np.abs(observed - predicted)),
        ece_if_calibrated=float(reference.mean()),
        ece_if_calibrated_95=float(np.quantile(reference, 0.95)),
        squared_error_debiased=float(squared),
    )
