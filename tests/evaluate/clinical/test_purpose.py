"""Figures for one purpose: held to scikit-learn, to cases worked out by hand, and to simulation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError
from medidistill.evaluate.clinical.proportions import clopper_pearson
from medidistill.evaluate.clinical.purpose import (
    matched_threshold,
    per_thousand,
    predictive_values,
    purpose_figures,
    sensitivity_difference,
    threshold_at_sensitivity,
)
from medidistill.evaluate.intervals import Interval
from medidistill.results.clinical_figures import Counts

RNG = np.random.default_rng(0)
TRUTH = np.repeat([1, 0], [40, 160])
SCORES = np.clip(0.3 + 0.25 * TRUTH + RNG.normal(0, 0.2, 200), 0, 1)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.45, 0.8, 1.0])
def test_counts_and_rates_are_those_of_scikit_learn(threshold):
    found = purpose_figures(TRUTH, SCORES, None, threshold=threshold, prevalence=0.2)
    called = threshold < SCORES
    tn, fp, fn, tp = confusion_matrix(TRUTH, called, labels=[0, 1]).ravel()
    assert found.counts == Counts(tp=tp, fn=fn, fp=fp, tn=tn)
    assert found.sensitivity == clopper_pearson(int(tp), 40)
    assert found.specificity == clopper_pearson(int(tn), 160)
    assert found.sensitivity.estimate == recall_score(TRUTH, called)
    if called.any():  # the prevalence is that of the images, so that Bayes' rule gives the plain shares
        assert found.ppv.estimate == pytest.approx(precision_score(TRUTH, called))
    if not called.all():
        assert found.npv.estimate == pytest.approx(tn / (tn + fn))


def test_predictive_values_by_hand():
    # 1,000 people, 10 % ill: 90 found, 10 missed; 90 of 900 alarmed
    ppv, npv = predictive_values(0.9, 0.9, 0.1)
    assert (ppv, npv) == (pytest.approx(0.5), pytest.approx(810 / 820))
    assert predictive_values(0.0, 1.0, 0.1) == (None, pytest.approx(0.9))
    assert predictive_values(1.0, 0.0, 0.1) == (pytest.approx(0.1), None)


def test_per_thousand_by_hand():
    assert per_thousand(Interval(0.9, 0.8, 0.95), 0.1) == Interval(
        pytest.approx(10), pytest.approx(5), pytest.approx(20)
    )


def test_missed_and_false_alarms_follow_the_prevalence():
    one, ten = (purpose_figures(TRUTH, SCORES, None, threshold=0.45, prevalence=p) for p in (0.01, 0.1))
    assert ten.missed.estimate == pytest.approx(10 * one.missed.estimate)
    assert ten.false_alarms.estimate == pytest.approx(one.false_alarms.estimate * 0.9 / 0.99)
    assert ten.ppv.estimate > one.ppv.estimate
    assert ten.missed.low < ten.missed.estimate < ten.missed.high


def test_limits_of_predictive_values_cover_what_they_say():
    rng, prevalence, covered = np.random.default_rng(1), 0.05, [0, 0]
    truth = np.repeat([1, 0], [60, 120])
    right = predictive_values(0.85, 0.8, prevalence)
    for _ in range(400):
        called = np.where(truth == 1, rng.random(180) < 0.85, rng.random(180) < 0.2)
        found = purpose_figures(truth, 0.25 + 0.5 * called, None, threshold=0.5, prevalence=prevalence)
        for place, interval in enumerate((found.ppv, found.npv)):
            covered[place] += interval.low <= right[place] <= interval.high
    assert min(covered) >= 0.95 * 400 - 3


def test_images_of_one_patient_count_as_one():
    truth, scores = np.repeat(TRUTH, 3), np.repeat(SCORES, 3)
    patients = np.repeat(np.arange(200), 3)
    single = purpose_figures(TRUTH, SCORES, None, threshold=0.45, prevalence=0.2)
    several = purpose_figures(truth, scores, patients, threshold=0.45, prevalence=0.2)
    images = purpose_figures(truth, scores, None, threshold=0.45, prevalence=0.2)
    assert (several.patients_with, several.patients_without) == (40, 160)
    width = several.sensitivity.high - several.sensitivity.low
    assert width == pytest.approx(single.sensitivity.high - single.sensitivity.low, rel=0.15)
    assert width > 1.4 * (images.sensitivity.high - images.sensitivity.low)


def test_all_found_in_few_patients_has_exact_limits():
    truth = np.repeat([1, 0], [9, 9])
    found = purpose_figures(truth, truth * 0.9, np.repeat(np.arange(6), 3), threshold=0.5, prevalence=0.1)
    assert found.sensitivity == clopper_pearson(3, 3)
    assert found.ppv.estimate == 1.0
    assert found.ppv.low < 0.2


@pytest.mark.parametrize("least", [0.5, 0.9, 0.99, 1.0])
def test_threshold_at_sensitivity_is_the_largest_that_reaches_it(least):
    threshold = threshold_at_sensitivity(TRUTH, SCORES, least)
    positives = SCORES[TRUTH == 1]
    assert (positives > threshold).mean() >= least
    higher = np.sort(positives[positives > threshold])[0]
    assert (positives > higher).mean() < least


def test_matched_threshold_has_the_same_specificity():
    other = np.clip(0.5 * SCORES + 0.3 * RNG.random(200), 0, 1)
    for threshold in (0.1, 0.3, 0.6):
        there = matched_threshold(TRUTH, SCORES, threshold, other)
        negatives = TRUTH == 0
        assert (other[negatives] <= there).mean() == pytest.approx((SCORES[negatives] <= threshold).mean())
    assert matched_threshold(TRUTH, np.maximum(SCORES, 0.01), 0.0, other) == -1.0


def test_sensitivity_difference_by_hand():
    # patients differ by +1, 0, 0, -1, 0, +1: mean 1/6, variance of the mean 6/5 * sum((d - m)^2) / 36
    one, other = np.array([1, 1, 0, 0, 1, 1]), np.array([0, 1, 0, 1, 1, 0])
    found = sensitivity_difference(one, other, None)
    gaps = one - other
    half = 2.5705818 * np.sqrt(1.2 * ((gaps - gaps.mean()) ** 2).sum() / 36)
    assert found.estimate == pytest.approx(1 / 6)
    assert (found.low, found.high) == (pytest.approx(1 / 6 - half), pytest.approx(1 / 6 + half))


def test_undefined_and_unusable_are_refused():
    with pytest.raises(UndefinedError, match="in every patient"):
        sensitivity_difference([1, 1, 1], [1, 1, 1], None)
    with pytest.raises(UndefinedError, match="need two"):
        sensitivity_difference([1, 1], [1, 0], ["p", "p"])
    with pytest.raises(UndefinedError, match="needs both"):
        purpose_figures([1, 1], [0.1, 0.2], None, threshold=0.5, prevalence=0.1)
    for changes in ({"threshold": 1.1}, {"prevalence": 0.0}, {"prevalence": 1.0}):
        with pytest.raises(ConfigError, match="must be in"):
            purpose_figures(TRUTH, SCORES, None, **({"threshold": 0.5, "prevalence": 0.1} | changes))
