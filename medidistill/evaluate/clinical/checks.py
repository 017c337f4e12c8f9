"""What every clinical statistic asks of its input, and how a value that the data do not define is marked.

A number that the data do not define is never a number here: the function raises `UndefinedError`, and a result that
collects many of them keeps an `Undefined` in its place, with the `estimate` where only its limits are undefined. Misuse
(shapes, ranges) raises `ConfigError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.statistics import BoolArray, FloatArray, IntArray, Undefined, patient_codes

__all__ = ["UndefinedError", "as_binary", "as_patients", "as_probabilities", "normal_quantile", "or_undefined"]

T = TypeVar("T")


class UndefinedError(ConfigError):
    """The data do not define this statistic: a class is absent, a variance is zero, a ratio has a zero below it.

    Args:
        message: what is missing.
        estimate: the point estimate, where only its limits are undefined.
    """

    def __init__(self, message: str, estimate: float | None = None) -> None:
        super().__init__(message)
        self.estimate = estimate

    def marked(self) -> Undefined:
        """Return what a result keeps in place of the statistic."""
        return Undefined(str(self), None if self.estimate is None else float(self.estimate))


def as_binary(truth: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
    """Return `truth` (N,) as bool and `scores` (N,) as float64.

    Raises:
        ConfigError: shapes differ, `truth` is not 0/1, a score is not finite.
        UndefinedError: no positive or no negative.
    """
    y, s = np.asarray(truth), np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or s.shape != y.shape:
        raise ConfigError(f"truth {y.shape} and scores {s.shape}: must both be (N,)")
    if not np.isin(y, (0, 1)).all():
        raise ConfigError("truth: must hold 0 and 1 (or False and True) only")
    if not np.isfinite(s).all():
        raise ConfigError(f"scores: {int((~np.isfinite(s)).sum())} of {s.size} are not finite")
    flags: BoolArray = y.astype(bool)
    if not flags.any() or flags.all():
        raise UndefinedError(f"{int(flags.sum())} positives and {int((~flags).sum())} negatives: needs both")
    return flags, s


def as_probabilities(truth: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
    """Like `as_binary`, and scores must lie in [0, 1]."""
    flags, s = as_binary(truth, scores)
    if s.min() < 0 or s.max() > 1:
        raise ConfigError(f"probabilities span {s.min():g} to {s.max():g}: must be in [0, 1]")
    return flags, s


def as_patients(patient_ids: Sequence[Any] | npt.NDArray[Any] | None, images: int) -> IntArray:
    """Return the patient of each image as 0..P-1, (N,); `None` makes every image its own patient.

    Raises:
        ConfigError: the counts differ.
    """
    if patient_ids is None:
        return np.arange(images)
    if len(patient_ids) != images:
        raise ConfigError(f"{len(patient_ids)} patient identifiers for {images} images: give one an image")
    return patient_codes(patient_ids)


def normal_quantile(confidence: float) -> float:
    """Return z with P(|Z| <= z) = `confidence`. Raises `ConfigError` outside (0, 1)."""
    from scipy import stats

    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence}: must be in (0, 1)")
    return float(stats.norm.ppf(0.5 + confidence / 2))


def or_undefined(compute: Callable[[], T]) -> T | Undefined:
    """Return what `compute` returns, or why the data do not define it."""
    try:
        return compute()
    except UndefinedError as error:
        return error.marked()
