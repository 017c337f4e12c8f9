"""Metrics against values worked out by hand, and against what they must not change with."""

from __future__ import annotations

import numpy as np
import pytest

from medidistill.errors import ConfigError
from medidistill.evaluate import metrics

# Truth 0 0 0 1 1 2; predictions 0 0 1 1 2 2.
LABELS = np.array([0, 0, 0, 1, 1, 2])
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.3, 0.5, 0.2], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5], [0.1, 0.2, 0.7]]
)


def test_values_by_hand():
    assert metrics.balanced_accuracy_score(LABELS, PROBABILITIES) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics.sensitivity_scores(LABELS, PROBABILITIES) == pytest.approx([2 / 3, 1 / 2, 1])
    assert metrics.specificity_scores(LABELS, PROBABILITIES) == pytest.approx([1, 3 / 4, 4 / 5])
    assert metrics.confusion_matrix(LABELS, PROBABILITIES).tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_auroc_counts_ordered_pairs_and_half_of_ties():
    # class 0: .7 .6 .3 against .1 .2 .1: all 9 pairs ordered.
    # class 1: .8 .3 against .2 .3 .5 .2: 4 + (2 below, 1 tie of .3, 1 above) = 4 + 2.5 of 8.
    # class 2: .7 against .1 .1 .2 .1 .5: all 5.
    assert metrics.auroc_scores(LABELS, PROBABILITIES) == pytest.approx([1, 6.5 / 8, 1])
    assert metrics.macro_auroc_score(LABELS, PROBABILITIES) == pytest.approx((2 + 6.5 / 8) / 3)


def _repeat(which: int) -> np.ndarray:
    return np.concatenate([np.arange(len(LABELS)), np.flatnonzero(which == LABELS)])


@pytest.mark.parametrize("repeated", [0, 1, 2])
def test_invariances_stated_in_the_table(repeated):
    rows = _repeat(repeated)
    y, p = LABELS[rows], PROBABILITIES[rows]
    assert metrics.balanced_accuracy_score(y, p) == pytest.approx(
        metrics.balanced_accuracy_score(LABELS, PROBABILITIES)
    )
    assert metrics.sensitivity_scores(y, p) == pytest.approx(metrics.sensitivity_scores(LABELS, PROBABILITIES))
    for score in (metrics.specificity_scores, metrics.auroc_scores):
        assert score(y, p)[repeated] == pytest.approx(score(LABELS, PROBABILITIES)[repeated])
    assert metrics.auroc_scores(LABELS, np.exp(3 * PROBABILITIES)) == pytest.approx(
        metrics.auroc_scores(LABELS, PROBABILITIES)
    )


@pytest.mark.parametrize(
    "score", [metrics.balanced_accuracy_score, metrics.macro_auroc_score, metrics.confusion_matrix]
)
@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.zeros(0, dtype=int), np.zeros((0, 3)), "no images"),
        (np.zeros(6, dtype=int), PROBABILITIES, "class 1 has no image"),
        (LABELS + 1, PROBABILITIES, "0..2"),
        (LABELS.astype(float), PROBABILITIES, "whole numbers"),
        (LABELS[:3], PROBABILITIES, r"\(3,\)"),
        (LABELS, np.where(PROBABILITIES == 0.8, np.nan, PROBABILITIES), "1 of 18 values are not finite"),
    ],
)
def test_undefined_cases_raise(score, labels, probabilities, message):
    with pytest.raises(ConfigError, match=message):
        score(labels, probabilities)


def test_message_names_the_class():
    with pytest.raises(ConfigError, match="class Pneumonia has no image"):
        metrics.check_scorable(np.array([0, 0]), np.full((2, 2), 0.5), ["Normal", "Pneumonia"])
