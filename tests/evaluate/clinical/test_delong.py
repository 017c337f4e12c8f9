"""DeLong held to the definition over all pairs, an independent package, a value worked out by hand, and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from MLstatkit import Delong_test
from scipy import stats
from sklearn.metrics import roc_auc_score

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError
from medidistill.evaluate.clinical.delong import (
    auroc_covariance,
    auroc_difference,
    auroc_interval,
    macro_auroc_difference,
    macro_auroc_interval,
)


def naive(truth: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Obuchowski's clustered covariance straight from the m x n table of pairs."""
    positive, negative = np.flatnonzero(truth), np.flatnonzero(truth == 0)
    names = np.unique(patients)
    parts = []
    areas = []
    for row in scores:
        gaps = row[positive][:, None] - row[negative][None, :]
        kernel = (gaps > 0) + 0.5 * (gaps == 0)
        area = kernel.mean()
        x = np.array([(kernel.mean(1) - area)[patients[positive] == name].sum() for name in names]) / len(positive)
        y = np.array([(kernel.mean(0) - area)[patients[negative] == name].sum() for name in names]) / len(negative)
        areas.append(area)
        parts.append((x, y))
    a, b = (len(np.unique(patients[side])) for side in (positive, negative))
    c = len(names)
    covariance = np.array(
        [
            [x1 @ x2 * a / (a - 1) + y1 @ y2 * b / (b - 1) + (x1 @ y2 + y1 @ x2) * c / (c - 1) for x2, y2 in parts]
            for x1, y1 in parts
        ]
    )
    return np.array(areas), covariance


def example(images: int = 60, models: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, images)
    scores = (truth + rng.normal(size=(models, images))).round(1)  # rounding makes ties
    return truth, scores, rng.integers(0, 25, images)


def test_equals_the_definition_over_all_pairs_with_ties_and_clusters():
    truth, scores, patients = example()
    for names in (patients, np.arange(len(truth))):
        areas, covariance = auroc_covariance(truth, scores, names)
        expected = naive(truth, scores, names)
        assert areas == pytest.approx(expected[0], abs=1e-12)
        assert covariance == pytest.approx(expected[1], abs=1e-12)
    assert areas == pytest.approx([roc_auc_score(truth, row) for row in scores])
    assert auroc_covariance(truth, scores)[1] == pytest.approx(covariance)  # no identifiers: DeLong


def test_equals_an_independent_package():
    truth, scores, _ = example(images=150, models=2, seed=1)
    z, p, _, _, a, b, info = Delong_test(truth, scores[0], scores[1], return_ci=True, return_auc=True, verbose=0)
    gap = auroc_difference(truth, scores[0], scores[1])
    assert gap.estimate == pytest.approx(a - b, abs=1e-12)
    assert abs(gap.z) == pytest.approx(abs(z), rel=1e-9)
    assert gap.p_value == pytest.approx(p, rel=1e-9)
    assert info


def test_value_worked_out_by_hand():
    # positives 3, 5; negatives 1, 4: three of four pairs in order. V10 = (1/2, 1), V01 = (1, 1/2):
    # each has sample variance 1/8, so the variance is (1/8)/2 + (1/8)/2 = 1/8
    areas, covariance = auroc_covariance([1, 1, 0, 0], [[3.0, 5.0, 1.0, 4.0]])
    assert areas[0] == 0.75
    assert covariance[0, 0] == pytest.approx(0.125)
    plain = auroc_interval([1, 1, 0, 0], [3.0, 5.0, 1.0, 4.0], transform="none")
    assert plain.high - 0.75 == pytest.approx(1.959964 * 0.125**0.5, rel=1e-6)
    logit = auroc_interval([1, 1, 0, 0], [3.0, 5.0, 1.0, 4.0])
    # logit(.75) = ln 3, se = sqrt(.125) / (.75 * .25)
    assert np.log(logit.high / (1 - logit.high)) == pytest.approx(np.log(3) + 1.959964 * 0.125**0.5 / 0.1875, rel=1e-6)


def test_monotone_transforms_and_swapping_the_classes_change_nothing():
    truth, scores, patients = example()
    _, covariance = auroc_covariance(truth, scores, patients)
    assert auroc_covariance(truth, np.exp(scores), patients)[1] == pytest.approx(covariance)
    _, swapped = auroc_covariance(1 - truth, -scores, patients)
    assert swapped == pytest.approx(covariance)
    gap, back = (auroc_difference(truth, scores[i], scores[1 - i], patients) for i in (0, 1))
    assert (gap.estimate, gap.p_value) == pytest.approx((-back.estimate, back.p_value))


def test_macro_of_two_classes_is_the_binary_area():
    truth, scores, patients = example(models=2)
    p, q = 1 / (1 + np.exp(-scores))
    both = np.stack([1 - p, p], axis=1)
    macro = macro_auroc_interval(truth, both, patients)
    assert macro.estimate == pytest.approx(roc_auc_score(truth, p))
    single = auroc_interval(truth, p, patients)
    # the same but for P/(P-1) in place of the factors of the two sides
    assert macro.low == pytest.approx(single.low, abs=0.005)
    gap = macro_auroc_difference(truth, both, np.stack([1 - q, q], axis=1), patients)
    assert gap.estimate == pytest.approx(auroc_difference(truth, p, q, patients).estimate)


def test_what_the_data_do_not_define_is_refused():
    with pytest.raises(UndefinedError, match="0 positives"):
        auroc_interval([0, 0], [0.1, 0.2])
    with pytest.raises(UndefinedError, match="1 patients with a positive"):
        auroc_interval([1, 0, 0], [0.1, 0.2, 0.3])
    with pytest.raises(UndefinedError, match="1 patients with a positive"):
        auroc_interval([1, 1, 0, 0], [0.1, 0.9, 0.2, 0.3], ["a", "a", "b", "c"])
    with pytest.raises(UndefinedError, match=r"AUROC 1.000 with zero variance"):
        auroc_interval([1, 1, 0, 0], [0.8, 0.9, 0.2, 0.3])
    with pytest.raises(UndefinedError, match="order these images alike"):
        auroc_difference([1, 1, 0, 0], [3, 5, 1, 4], [30, 50, 10, 40])
    for wrong in ([0.1, np.nan], [0.1]):
        with pytest.raises(ConfigError):
            auroc_interval([1, 0], wrong)
    with pytest.raises(ConfigError, match="transform='log'"):
        auroc_interval([1, 1, 0, 0], [3, 5, 1, 4], transform="log")


SIMULATIONS = 600  # the standard error of a coverage of 95 % is 0.89 %
TRUE_GAP = stats.norm.cdf(1.2 / 2**0.5) - stats.norm.cdf(0.8 / 2**0.5)


def coverage(per_patient: int, *, by_patient: bool) -> tuple[float, float]:
    """Coverage of area and difference for patients whose images share a severity; 60 ill and 60 well."""
    rng = np.random.default_rng(3)
    truth = np.repeat(np.arange(120) % 2, per_patient)
    names = np.repeat(np.arange(120), per_patient) if by_patient else None
    shared = 0.7**0.5 if per_patient > 1 else 0.0
    area = stats.norm.cdf(1.2 / 2**0.5)
    hits = np.zeros(2)
    for _ in range(SIMULATIONS):
        # the share of variance that images of a patient have in common, for both models
        noise = [
            shared * np.repeat(rng.normal(size=120), per_patient) + (1 - shared**2) ** 0.5 * rng.normal(size=len(truth))
            for _ in range(2)
        ]
        first, second = 1.2 * truth + noise[0], 0.8 * truth + noise[1]
        one = auroc_interval(truth, first, names)
        gap = auroc_difference(truth, first, second, names)
        hits += [one.low <= area <= one.high, gap.low <= TRUE_GAP <= gap.high]
    return tuple(hits / SIMULATIONS)


@pytest.mark.slow
def test_intervals_cover_what_they_say_for_independent_images():
    assert coverage(1, by_patient=True) == pytest.approx((0.95, 0.95), abs=0.02)


def test_intervals_over_patients_cover_with_several_images_each():
    assert coverage(3, by_patient=True) == pytest.approx((0.95, 0.95), abs=0.02)


def test_delong_without_patients_would_not():
    assert max(coverage(3, by_patient=False)) < 0.90


@pytest.mark.slow
def test_macro_interval_covers():
    """Three classes, unit normal logits with the true class raised; the truth by a large sample."""
    rng = np.random.default_rng(4)

    def draw(images: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(images) % 3
        z = rng.normal(size=(images, 3))
        z[np.arange(images), labels] += 1.0
        return labels, np.exp(z) / np.exp(z).sum(1, keepdims=True)

    labels, p = draw(300_000)
    truth = np.mean([roc_auc_score(labels == k, p[:, k]) for k in range(3)])
    hits = 0
    for _ in range(800):
        one = macro_auroc_interval(*draw(120))
        hits += one.low <= truth <= one.high
    assert hits / 800 == pytest.approx(0.95, abs=0.02 + 0.003)


def test_macro_areas_refuse_tables_that_do_not_fit_the_labels():
    labels = np.arange(30) % 3
    for wrong in (np.full((29, 3), 1 / 3), np.full(30, 0.5)):
        with pytest.raises(ConfigError, match=r"must be \(30, K\)"):
            macro_auroc_interval(labels, wrong)
