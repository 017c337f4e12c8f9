"""McNemar's exact test: do two models err on the same number of images?

Only images that one model gets right and the other wrong count. Under equal error rates the one-sided wins are
Binomial(discordant, 1/2); the p value is the exact two-sided binomial one. It takes images as independent: with
several images a patient it is too small, and the paired interval over patients is the one to read.

Source: McNemar 1947, Psychometrika 12; Fagerland, Lydersen, Laake 2013, BMC Medical Research Methodology 13.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError
from medidistill.results.clinical import McNemar

__all__ = ["McNemar", "mcnemar"]


def mcnemar(first_right: npt.ArrayLike, second_right: npt.ArrayLike) -> McNemar:
    """Compare two models by whether they are right on the same (N,) images, 0/1 each.

    Raises:
        UndefinedError: the models are right and wrong on the same images: nothing to test.
        ConfigError: shapes differ.
    """
    from scipy import stats

    first, second = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    if first.ndim != 1 or first.shape != second.shape:
        raise ConfigError(f"right answers {first.shape} and {second.shape}: must both be (N,)")
    b, c = int((first & ~second).sum()), int((~first & second).sum())
    if b + c == 0:
        raise UndefinedError("both models are right and wrong on the same images: nothing to test")
    return McNemar(b, c, float(stats.binomtest(b, b + c).pvalue))
