"""ROC and precision-recall curves on a fixed grid, to be drawn: exact curves would list the images one by one.

    ROC                 sensitivity at 1 - specificity = 0, 0.01, ..., 1, straight between the points of the curve
    precision-recall    precision at the highest threshold that finds a share of at least 0.01, 0.02, ..., 1

The second is a staircase, for precision may not be interpolated; the area below it is the average precision up to
the width of the grid.

Source: Fawcett 2006, Pattern Recognition Letters 27; Davis, Goadrich 2006, ICML.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medidistill.evaluate.clinical.checks import as_binary
from medidistill.results.clinical_figures import Curve

__all__ = ["Curve", "precision_recall_points", "roc_points"]

_STEPS = 100


def roc_points(truth: npt.ArrayLike, scores: npt.ArrayLike) -> Curve:
    """Return sensitivity (`y`) over 1 - specificity (`x`) of (N,) scores.

    Raises:
        UndefinedError: no positive or no negative.
        ConfigError: shapes or values do not fit.
    """
    from sklearn.metrics import roc_curve

    flags, s = as_binary(truth, scores)
    false, true, _ = roc_curve(flags, s)
    grid = np.linspace(0, 1, _STEPS + 1)
    heights = np.interp(grid, false, true)
    heights[0] = true[false == 0].max()  # the curve rises straight up before it leaves the axis
    return Curve(_rounded(grid), _rounded(heights))


def precision_recall_points(truth: npt.ArrayLike, scores: npt.ArrayLike) -> Curve:
    """Return precision (`y`) over sensitivity (`x`) of (N,) scores; raises like `roc_points`."""
    from sklearn.metrics import precision_recall_curve

    flags, s = as_binary(truth, scores)
    precision, recall, _ = precision_recall_curve(flags, s)
    precision, recall = precision[::-1], recall[::-1]  # recall rises now, from 0 (where nothing is found)
    grid = np.arange(1, _STEPS + 1) / _STEPS
    first = np.searchsorted(recall, grid - 1e-12, side="left")
    return Curve(_rounded(grid), _rounded(precision[first]))


def _rounded(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(np.round(values, 5).tolist())
