"""Metrics of a diagnostic model from its class probabilities: scikit-learn's, with undefined cases refused.

Every function takes `labels`, (N,) integers in 0..K-1, and `probabilities`, (N, K) floats, and calls the
class with the largest probability the prediction (the first one on a tie). A metric that the data do
not define (no image, a class without an image, a value that is not finite) raises `ConfigError`: scikit-learn
would warn and average over what is left, which makes numbers of different data look comparable.

| metric | range | does not change when |
|---|---|---|
| `balanced_accuracy_score` | [0, 1], chance 1/K | images of one class are repeated |
| `auroc_scores` | [0, 1], chance 0.5 | the class itself is repeated; its column is transformed monotonically |
| `macro_auroc_score` | [0, 1], chance 0.5 | a column is transformed monotonically |
| `sensitivity_scores` | [0, 1] | any class is repeated |
| `specificity_scores` | [0, 1] | the class itself is repeated |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.statistics import FloatArray, IntArray

__all__ = [
    "auroc_scores",
    "balanced_accuracy_score",
    "check_scorable",
    "confusion_matrix",
    "macro_auroc_score",
    "sensitivity_scores",
    "specificity_scores",
]


def check_scorable(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, class_names: Sequence[str] | None = None
) -> tuple[IntArray, FloatArray]:
    """Return `labels` as (N,) int64 and `probabilities` as (N, K) float64, or say why no metric is defined.

    Args:
        labels: (N,) integers in 0..K-1.
        probabilities: (N, K) finite numbers, K >= 2.
        class_names: K names for the messages.

    Raises:
        ConfigError: wrong shapes, no image, a label outside 0..K-1, a class without an image, a non-finite value.
    """
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or y.ndim != 1 or len(y) != len(p) or p.shape[1] < 2:
        raise ConfigError(f"labels {y.shape} and probabilities {p.shape}: must be (N,) and (N, K) with K >= 2")
    if len(y) == 0:
        raise ConfigError("no images to score: a metric needs at least one image of every class")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= p.shape[1]:
        raise ConfigError(
            f"labels span {y.min()} to {y.max()} ({y.dtype}): must be whole numbers in 0..{p.shape[1] - 1}"
        )
    missing = np.flatnonzero(np.bincount(y, minlength=p.shape[1]) == 0)
    if missing.size:
        name = class_names[missing[0]] if class_names else str(missing[0])
        raise ConfigError(f"class {name} has no image among the {len(y)} to score: its metrics are undefined; add some")
    if not np.isfinite(p).all():
        raise ConfigError(f"probabilities: {int((~np.isfinite(p)).sum())} of {p.size} values are not finite")
    return y.astype(np.int64), p


def balanced_accuracy_score(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Return the mean over classes of the share of their images that is predicted right."""
    from sklearn import metrics as sk

    y, p = check_scorable(labels, probabilities)
    return float(sk.balanced_accuracy_score(y, p.argmax(axis=1)))


def auroc_scores(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> FloatArray:
    """Return the K areas under the one-vs-rest ROC curves; ties count half."""
    from sklearn import metrics as sk

    y, p = check_scorable(labels, probabilities)
    return np.array([sk.roc_auc_score(y == k, p[:, k]) for k in range(p.shape[1])])


def macro_auroc_score(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Return the plain mean of `auroc_scores`."""
    return float(auroc_scores(labels, probabilities).mean())


def confusion_matrix(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> IntArray:
    """Return (K, K) counts: row = true class, column = predicted class."""
    from sklearn import metrics as sk

    y, p = check_scorable(labels, probabilities)
    matrix: IntArray = sk.confusion_matrix(y, p.argmax(axis=1), labels=np.arange(p.shape[1])).astype(np.int64)
    return matrix


def sensitivity_scores(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> FloatArray:
    """Return for each class the share of its images that is predicted as it (recall)."""
    from sklearn import metrics as sk

    y, p = check_scorable(labels, probabilities)
    scores: FloatArray = sk.recall_score(y, p.argmax(axis=1), labels=np.arange(p.shape[1]), average=None)
    return scores


def specificity_scores(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> FloatArray:
    """Return for each class the share of the other classes' images that is not predicted as it."""
    from sklearn import metrics as sk

    y, p = check_scorable(labels, probabilities)
    (tn, fp), _ = sk.multilabel_confusion_matrix(y, p.argmax(axis=1), labels=np.arange(p.shape[1])).transpose(1, 2, 0)
    scores: FloatArray = tn / (tn + fp)
    return scores
