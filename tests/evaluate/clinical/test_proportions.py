"""Proportions, likelihood ratios and the operating point: independent packages, hand-made cases, coverage."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import class_likelihood_ratios
from statsmodels.stats.proportion import proportion_confint

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError
from medidistill.evaluate.clinical.likelihood import likelihood_ratio
from medidistill.evaluate.clinical.operating_point import operating_point, threshold_at_specificity
from medidistill.evaluate.clinical.proportions import clopper_pearson, patient_proportion


@pytest.mark.parametrize(("hits", "images"), [(0, 12), (12, 12), (1, 30), (27, 30)])
def test_clopper_pearson_equals_statsmodels(hits, images):
    one = clopper_pearson(hits, images, 0.9)
    assert (one.low, one.high) == pytest.approx(proportion_confint(hits, images, 0.1, method="beta"))
    assert one.estimate == hits / images


def test_proportion_over_patients_by_hand():
    # four patients of two images: hits 2, 1, 1, 0; share 1/2, deviations (1, 0, 0, -1)/8, variance 2/64 * 4/3
    one = patient_proportion([1, 1, 1, 0, 0, 1, 0, 0], ["a", "a", "b", "b", "c", "c", "d", "d"])
    half = 3.182446 * (2 / 64 * 4 / 3) ** 0.5 / 0.25
    assert np.log(one.high / (1 - one.high)) == pytest.approx(half, rel=1e-6)
    assert one.low == pytest.approx(1 - one.high)


def test_proportion_over_patients_is_wider_by_the_design_effect():
    rng = np.random.default_rng(0)
    hits = rng.integers(0, 2, 400)
    alone = patient_proportion(hits)
    copied = patient_proportion(np.repeat(hits, 4), np.repeat(np.arange(400), 4))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


def test_undefined_proportions():
    for wrong, ids in (([1, 1, 1], "abc"), ([0, 0], "ab"), ([1, 0], "aa"), ([1, 0, 1, 0], "aabb")):
        with pytest.raises(UndefinedError):
            patient_proportion(wrong, list(ids))
    with pytest.raises(UndefinedError, match="no images"):
        clopper_pearson(0, 0)
    with pytest.raises(ConfigError, match="hits=3 of trials=2"):
        clopper_pearson(3, 2)
    with pytest.raises(ConfigError, match="2 patient identifiers for 3 images"):
        patient_proportion([1, 0, 1], ["a", "b"])


def test_likelihood_ratios_equal_scikit_learn_and_simel():
    truth = np.repeat([1, 0], [40, 60])
    called = np.r_[np.repeat([1, 0], [30, 10]), np.repeat([1, 0], [6, 54])]
    expected = class_likelihood_ratios(truth, called)
    error = np.array([1 / 30 - 1 / 40 + 1 / 6 - 1 / 60, 1 / 10 - 1 / 40 + 1 / 54 - 1 / 60]) ** 0.5
    for positive, point, se in zip((True, False), expected, error * (100 / 99) ** 0.5, strict=True):
        one = likelihood_ratio(truth, called, positive=positive)
        assert one.estimate == pytest.approx(point)
        assert np.log(one.high / one.estimate) == pytest.approx(1.959964 * se, rel=1e-6)
        assert np.log(one.estimate / one.low) == pytest.approx(1.959964 * se, rel=1e-6)


def test_ill_and_well_images_of_one_patient_are_correlated():
    # of each patient one ill and one well image, always called alike: the ratio is 1 whoever is drawn
    truth, patients = np.tile([1, 0], 30), np.repeat(np.arange(30), 2)
    called = np.repeat(np.arange(30) % 3 == 0, 2)
    one = likelihood_ratio(truth, called, patients)
    assert (one.low, one.high) == pytest.approx((1, 1))
    alone = likelihood_ratio(truth, called)
    assert alone.high > 1.5


def test_undefined_likelihood_ratios():
    with pytest.raises(UndefinedError, match=r"LR\+: no positive result among the images without"):
        likelihood_ratio([1, 1, 0, 0], [1, 0, 0, 0])
    with pytest.raises(UndefinedError, match="LR-: no negative result among the images with the"):
        likelihood_ratio([1, 1, 0, 0], [1, 1, 0, 1], positive=False)


def test_threshold_is_the_smallest_that_reaches_the_specificity():
    rng = np.random.default_rng(1)
    for decimals in (1, 6):  # with and without ties
        truth, scores = rng.integers(0, 2, 200), rng.random(200).round(decimals)
        negatives = scores[truth == 0]
        for target in (0.5, 0.8, 0.9, 0.95):
            t = threshold_at_specificity(truth, scores, target)
            assert (negatives <= t).mean() >= target
            assert all((negatives <= lower).mean() < target for lower in np.unique(negatives[negatives < t]))
    # 10 negatives resolve 0.9 exactly: one false positive is allowed in spite of 1 - 0.9 < 0.1 in floats
    assert threshold_at_specificity([0] * 10 + [1], [*range(10), 5], 0.9) == 8


def test_threshold_that_validation_cannot_resolve_is_refused():
    with pytest.raises(UndefinedError, match=r"not resolvable with 9 validation negatives: needs 10"):
        threshold_at_specificity([0] * 9 + [1], [*range(9), 5], 0.9)
    with pytest.raises(ConfigError, match="target specificity 1"):
        threshold_at_specificity([0, 1], [0.1, 0.2], 1.0)


def test_operating_point_takes_the_threshold_from_validation_alone():
    rng = np.random.default_rng(2)
    val_truth, truth = rng.integers(0, 2, 300), rng.integers(0, 2, 200)
    val_scores, scores = val_truth + rng.normal(size=300), truth + rng.normal(size=200) + 1.0  # test is shifted
    patients = np.arange(200) // 2
    point = operating_point(val_truth, val_scores, truth, scores, patients, target=0.9)
    assert point.threshold == threshold_at_specificity(val_truth, val_scores, 0.9)
    assert point.val_specificity >= 0.9
    assert point.specificity.estimate < 0.8
    called = scores > point.threshold
    assert vars(point.counts) == {
        "tp": int(called[truth == 1].sum()),
        "fn": int((~called)[truth == 1].sum()),
        "fp": int(called[truth == 0].sum()),
        "tn": int((~called)[truth == 0].sum()),
    }
    assert point.sensitivity.estimate == pytest.approx(called[truth == 1].mean())
    assert point.sensitivity_by_patient.estimate == point.sensitivity.estimate
    assert point.lr_positive.estimate == pytest.approx(point.sensitivity.estimate / (1 - point.specificity.estimate))


def test_operating_point_marks_what_is_undefined():
    val_truth, val_scores = [0] * 10 + [1], [*range(10), 20]
    point = operating_point(val_truth, val_scores, [1, 1, 0, 0], [10, 11, 1, 2])
    assert vars(point.sensitivity) == {"estimate": 1.0, "low": pytest.approx(0.158, abs=1e-3), "high": 1.0}
    assert "without variation" in point.sensitivity_by_patient.undefined
    assert "LR+" in point.lr_positive.undefined


SIMULATIONS = 2000


@pytest.mark.slow
def test_coverage_of_proportion_and_likelihood_ratio_over_patients():
    """80 ill and 80 well patients of three images; images of a patient share their chance of being called."""
    rng = np.random.default_rng(5)
    truth, names = np.repeat(np.arange(160) % 2, 3), np.repeat(np.arange(160), 3)
    chance, hits = (0.2, 0.75), np.zeros(3)
    for _ in range(SIMULATIONS):
        skill = np.where(np.arange(160) % 2, rng.beta(1.5, 0.5, 160), rng.beta(0.5, 2.0, 160))  # means 0.75, 0.2
        called = rng.random(480) < np.repeat(skill, 3)
        share = patient_proportion(called[truth == 1], names[truth == 1])
        ratio = likelihood_ratio(truth, called, names)
        exact = clopper_pearson(int(called[truth == 1].sum()), 240)
        hits += [
            share.low <= chance[1] <= share.high,
            ratio.low <= chance[1] / chance[0] <= ratio.high,
            exact.low <= chance[1] <= exact.high,
        ]
    covered = hits / SIMULATIONS
    assert covered[:2] == pytest.approx([0.95, 0.95], abs=0.02)
    assert covered[2] < 0.9  # images taken as independent: too narrow
