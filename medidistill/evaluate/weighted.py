"""The metrics under many sets of image weights at once: what a bootstrap needs, without a loop over resamples.

Repeating image i w_i times in a resample is giving it weight w_i. Every function takes `labels` (N,) in 0..K-1,
`probabilities` (N, K) and `weights` (B, N) >= 0, in which every class has a positive total, and returns one value
for each of the B resamples. With weights of one they equal `medidistill.evaluate.metrics`; a test holds them to
scikit-learn on the repeated images. Cost: O(B N) time and memory, times K for the AUROC.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medidistill.statistics import FloatArray

__all__ = ["weighted_aurocs", "weighted_rates"]


def weighted_rates(
    labels: npt.NDArray[np.int64], probabilities: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return sensitivities and specificities, each (B, K); their mean over K of the first is balanced accuracy."""
    classes = np.arange(probabilities.shape[1])
    truth = labels[:, None] == classes
    called = probabilities.argmax(axis=1)[:, None] == classes
    totals = weights @ truth
    sensitivity = (weights @ (truth & called)) / totals
    specificity = (weights @ (~truth & ~called)) / (weights @ ~truth)
    return sensitivity, specificity


def weighted_aurocs(labels: npt.NDArray[np.int64], probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the one-vs-rest areas under the ROC curve, (B, K).

    The area is the weighted share of (positive, negative) pairs that are in order, ties counting half. With the
    negatives sorted, the weight below and at each positive's score is a difference of two cumulative sums.
    """
    areas = np.empty((len(weights), probabilities.shape[1]))
    for k in range(probabilities.shape[1]):
        positive = labels == k
        scores = np.sort(probabilities[~positive, k])
        order = np.argsort(probabilities[~positive, k], kind="stable")
        below = np.searchsorted(scores, probabilities[positive, k], side="left")
        through = np.searchsorted(scores, probabilities[positive, k], side="right")
        cumulative = np.pad(np.cumsum(weights[:, ~positive][:, order], axis=1), ((0, 0), (1, 0)))
        ordered = 0.5 * (cumulative[:, below] + cumulative[:, through])
        own = weights[:, positive]
        areas[:, k] = (own * ordered).sum(axis=1) / (own.sum(axis=1) * cumulative[:, -1])
    return areas
