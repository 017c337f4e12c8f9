"""Resampling held to scikit-learn on repeated images, intervals held to their coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medidistill.errors import ConfigError
from medidistill.evaluate import metrics
from medidistill.evaluate.intervals import (
    paired_t_interval,
    percentile_interval,
    resample_patients,
    resample_units,
)
from medidistill.evaluate.weighted import weighted_aurocs, weighted_rates


def _example(images: int = 60, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, classes, images)
    probabilities = rng.dirichlet(np.ones(classes), images).round(1)  # rounding makes many ties
    return labels, probabilities


def test_weighted_metrics_equal_scikit_learn_on_the_repeated_images():
    labels, probabilities = _example()
    weights = np.random.default_rng(0).integers(0, 4, (8, len(labels))).astype(float)
    sensitivity, specificity = weighted_rates(labels, probabilities, weights)
    areas = weighted_aurocs(labels, probabilities, weights)
    for b, one in enumerate(weights):
        rows = np.repeat(np.arange(len(labels)), one.astype(int))
        y, p = labels[rows], probabilities[rows]
        assert sensitivity[b].mean() == pytest.approx(metrics.balanced_accuracy_score(y, p))
        assert sensitivity[b] == pytest.approx(metrics.sensitivity_scores(y, p))
        assert specificity[b] == pytest.approx(metrics.specificity_scores(y, p))
        assert areas[b] == pytest.approx(metrics.auroc_scores(y, p))


def test_a_patient_is_drawn_with_all_images_and_as_many_patients_as_there_are():
    labels = np.arange(30) % 3
    patients = [f"p{min(i // 4, 5)}" for i in range(30)]  # five patients of 4 images, one of 10
    resamples = resample_patients(patients, labels, 3, 50, seed=0)
    assert resamples.counts.shape == (50, 6)
    assert (resamples.counts.sum(axis=1) == 6).all()
    weights = resamples.weights(slice(None))
    for k in range(6):
        own = weights[:, [i for i, name in enumerate(patients) if name == f"p{k}"]]
        assert (own == resamples.counts[:, k : k + 1]).all()
    assert resamples.redrawn == 0
    again = resample_patients(patients, labels, 3, 50, seed=0)
    assert np.array_equal(resamples.counts, again.counts)


def test_resamples_that_lack_a_class_are_redrawn_and_counted():
    labels = np.array([0] * 10 + [1])  # the one patient of class 1 is absent from (10/11)^11 = 35 % of draws
    resamples = resample_patients([str(i) for i in range(11)], labels, 2, 400, seed=0)
    assert (resamples.counts[:, resamples.patient[10]] >= 1).all()
    assert 400 * 0.35 * 0.7 < resamples.redrawn < 400 * 0.54 * 1.4


def test_counts_that_differ_are_refused():
    with pytest.raises(ConfigError, match="2 patient identifiers for 3 images"):
        resample_patients(["a", "b"], np.array([0, 1, 1]), 2, 10, seed=0)


def test_units_reproduce_the_variance_of_a_mean():
    values = np.random.default_rng(1).normal(size=5)
    shares = resample_units(5, 40_000, 0, "network", 0)
    assert shares.sum(axis=1) == pytest.approx(1)
    # the standard error of a variance estimated from 40,000 draws is below 1 %
    assert (shares @ values).var() == pytest.approx(values.var(ddof=1) / 5, rel=0.04)
    assert (resample_units(1, 7, 0) == 1).all()


def test_percentiles_of_known_draws():
    interval = percentile_interval(0.4, np.arange(101) / 100, 0.9)
    assert (interval.estimate, interval.low, interval.high) == (0.4, pytest.approx(0.05), pytest.approx(0.95))
    with pytest.raises(ConfigError, match="1 of 2 bootstrap values are not finite"):
        percentile_interval(0.4, [0.1, np.nan], 0.9)


def test_paired_t_interval_by_hand():
    # mean 2, sd 1, n 3; t quantile .975 with 2 degrees of freedom is 4.302653
    interval = paired_t_interval([1.0, 2.0, 3.0])
    assert interval.estimate == pytest.approx(2)
    assert interval.high - 2 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert 2 - interval.low == pytest.approx(interval.high - 2)
    low, high = stats.ttest_1samp([1.0, 2.0, 3.0], 0).confidence_interval(0.8)
    assert (paired_t_interval([1, 2, 3], 0.8).low, paired_t_interval([1, 2, 3], 0.8).high) == pytest.approx((low, high))
    for wrong in ([1.0], [1.0, np.inf]):
        with pytest.raises(ConfigError, match="finite"):
            paired_t_interval(wrong)


SIMULATIONS = 300
# With 300 simulations the share of a 95 % interval that covers has a standard error of 1.26 %; three of them.
TOLERANCE = 3 * (0.95 * 0.05 / SIMULATIONS) ** 0.5


def _coverage(by_patient: bool) -> float:
    """Share of intervals that cover, for patients of 4 images who are right or wrong as a whole most of the time."""
    rng = np.random.default_rng(11)
    patients, per_patient, hits = 80, 4, 0
    labels = np.repeat(np.arange(patients) % 2, per_patient)
    identifiers = np.repeat(np.arange(patients), per_patient) if by_patient else np.arange(len(labels))
    for simulation in range(SIMULATIONS):
        skill = rng.beta(1.4, 0.6, patients)  # mean 0.7: the truth; images of one patient share it
        right = rng.random(len(labels)) < np.repeat(skill, per_patient)
        called = np.where(right, labels, 1 - labels)
        probabilities = np.eye(2)[called]
        resamples = resample_patients(identifiers.astype(str).tolist(), labels, 2, 300, seed=simulation)
        draws = weighted_rates(labels, probabilities, resamples.weights(slice(None)))[0].mean(axis=1)
        interval = percentile_interval(metrics.balanced_accuracy_score(labels, probabilities), draws, 0.95)
        hits += interval.low <= 0.7 <= interval.high
    return hits / SIMULATIONS


def test_patient_bootstrap_covers_what_it_says():
    assert _coverage(by_patient=True) == pytest.approx(0.95, abs=TOLERANCE + 0.01)  # 1 %: percentile, 80 patients


@pytest.mark.slow
def test_bootstrap_of_images_would_not():
    assert _coverage(by_patient=False) < 0.95 - TOLERANCE - 0.01


def test_two_way_bootstrap_covers_the_luck_of_training():
    """Five networks of different skill on 120 patients: the truth is the skill of the population of networks."""
    rng = np.random.default_rng(2)
    labels, networks, hits, blind = np.arange(120) % 2, 5, 0, 0
    for simulation in range(SIMULATIONS):
        skills = 0.7 + 0.05 * rng.standard_normal(networks)
        right = rng.random((networks, len(labels))) < skills[:, None]
        resamples = resample_patients([str(i) for i in range(120)], labels, 2, 300, seed=simulation)
        draws = np.stack(
            [
                weighted_rates(labels, np.eye(2)[np.where(one, labels, 1 - labels)], resamples.weights(slice(None)))[0]
                for one in right
            ]
        ).mean(axis=2)
        shares = resample_units(networks, 300, simulation, "network")
        both = percentile_interval(right.mean(), np.einsum("bu,ub->b", shares, draws), 0.95)
        patients_only = percentile_interval(right.mean(), draws.mean(axis=0), 0.95)
        hits += both.low <= 0.7 <= both.high
        blind += patients_only.low <= 0.7 <= patients_only.high
    assert hits / SIMULATIONS > 0.95 - TOLERANCE
    assert blind / SIMULATIONS < 0.95 - TOLERANCE
