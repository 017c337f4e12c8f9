"""Average precision: the mean precision over the positives, taken at each one's score.

    AP = sum_t (recall_t - recall_{t-1}) precision_t        over the distinct scores, high to low

No interpolation, so it equals scikit-learn's. Chance level is the prevalence of the *test images*: an AP of 0.4 is
good at a prevalence of 5 % and poor at 50 %, and two test sets with different prevalence cannot be compared.

Weighted as in `medidistill.evaluate.weighted`, so that many bootstrap resamples cost one sort. The limits are the
bias-corrected percentile kind: AP of a resample is biased upward, for repeated images stand above each other.

Source: Boyd, Eng, Page 2013, ECML PKDD (intervals for precision-recall areas); Efron 1981, Canadian Journal of
Statistics 9 (bias correction).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError, as_binary
from medidistill.evaluate.intervals import Interval
from medidistill.statistics import FloatArray

__all__ = ["average_precision", "bias_corrected_interval", "weighted_average_precision"]


def average_precision(truth: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Return the average precision of (N,) scores. Raises `UndefinedError` without positives or negatives."""
    flags, s = as_binary(truth, scores)
    return float(weighted_average_precision(flags, s, np.ones((1, len(s))))[0])


def weighted_average_precision(truth: npt.ArrayLike, scores: npt.ArrayLike, weights: FloatArray) -> FloatArray:
    """Return the average precision under each row of image weights (B, N), each with a positive of weight > 0."""
    flags, s = as_binary(truth, scores)
    order = np.argsort(-s, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(s[order]) != 0, True])  # ties enter together
    chosen = weights[:, order]
    through = np.cumsum(chosen, axis=1)[:, last]
    found = np.cumsum(chosen * flags[order], axis=1)[:, last]
    gained = np.diff(found, axis=1, prepend=0.0)
    precision = np.divide(found, through, out=np.zeros_like(found), where=through > 0)
    areas: FloatArray = (gained * precision).sum(axis=1) / found[:, -1]
    return areas


def bias_corrected_interval(estimate: float, draws: npt.ArrayLike, confidence: float) -> Interval:
    """Return Efron's bias-corrected percentile interval of bootstrap `draws` (B,).

    Raises:
        UndefinedError: the estimate lies outside nearly all draws, or the draws do not vary.
        ConfigError: draws that are not finite, a level outside (0, 1).
    """
    from scipy import stats

    values = np.asarray(draws, dtype=np.float64)
    if not 0 < confidence < 1 or values.size == 0 or not np.isfinite(values).all():
        raise ConfigError(f"{values.size} draws, confidence={confidence}: needs finite draws and a level in (0, 1)")
    below = float((values < estimate).mean() + 0.5 * (values == estimate).mean())
    if np.ptp(values) == 0 or not 0 < below < 1:
        raise UndefinedError(f"estimate {estimate:.3f}: the bootstrap draws do not vary around it", float(estimate))
    shift = 2 * stats.norm.ppf(below)
    half = stats.norm.ppf(0.5 + confidence / 2)
    limits = np.quantile(values, stats.norm.cdf(np.array([shift - half, shift + half])))
    return Interval(float(estimate), float(limits[0]), float(limits[1]))
