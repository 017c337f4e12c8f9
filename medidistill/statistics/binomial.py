"""Exact binomial limits. Source: Clopper, Pearson 1934, Biometrika 26."""

from __future__ import annotations

from medidistill.errors import ConfigError

__all__ = ["clopper_pearson_limits"]


def clopper_pearson_limits(hits: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided exact binomial limits of `hits` in `trials`.

    `hits` may be a sum of shares (a patient who was hit in 3 of 4 runs counts 0.75 of one trial): the limits, those of
    the beta distribution, then count each patient once.

    Args:
        hits: in 0..trials.
        trials: independent ones, > 0.
        confidence: in (0, 1).

    Raises:
        ConfigError: a number outside its range.
    """
    from scipy import stats

    if not trials > 0 or not 0 <= hits <= trials * (1 + 1e-9) or not 0 < confidence < 1:
        raise ConfigError(
            f"hits={hits} of trials={trials}, confidence={confidence}: must be 0 <= hits <= trials, trials > 0, level "
            "in (0, 1)"
        )
    tail = (1 - confidence) / 2
    misses = max(0.0, trials - hits)
    low = float(stats.beta.ppf(tail, hits, misses + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, misses)) if misses > 0 else 1.0
    return low, high
