"""Average precision, Brier score, calibration, decision curve, McNemar, verdict: oracles, invariances, coverage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from dcurves import dca
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import average_precision_score, brier_score_loss
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.average_precision import (
    average_precision,
    bias_corrected_interval,
    weighted_average_precision,
)
from medidistill.evaluate.clinical.brier import brier_losses, brier_parts, brier_score
from medidistill.evaluate.clinical.calibration import calibration_curve, equal_mass_bins
from medidistill.evaluate.clinical.checks import UndefinedError, as_patients, or_undefined
from medidistill.evaluate.clinical.decision_curve import decision_curve
from medidistill.evaluate.clinical.mcnemar import mcnemar
from medidistill.evaluate.clinical.noninferiority import noninferiority
from medidistill.evaluate.clinical.recalibration import recalibration


def example(images: int = 200, seed: int = 0, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 2, images).round(decimals)
    return (rng.random(images) < p).astype(int), p


class TestAveragePrecision:
    def test_equals_scikit_learn_with_ties_and_weights(self):
        truth, p = example(decimals=1)
        assert average_precision(truth, p) == pytest.approx(average_precision_score(truth, p))
        weights = np.random.default_rng(1).integers(0, 4, (6, len(p))).astype(float)
        for row, value in zip(weights, weighted_average_precision(truth, p, weights), strict=True):
            assert value == pytest.approx(average_precision_score(truth, p, sample_weight=row))

    def test_undefined(self):
        with pytest.raises(UndefinedError):
            average_precision([0, 0], [0.1, 0.2])

    def test_bias_corrected_interval(self):
        draws = np.random.default_rng(0).normal(1, 1, 100_000)
        low, high = np.quantile(draws, [0.025, 0.975])
        plain = bias_corrected_interval(float(np.median(draws)), draws, 0.95)
        assert (plain.low, plain.high) == pytest.approx((low, high), abs=1e-3)
        # draws are too high by one: the corrected interval is moved down by two (z0 = -1), to 0 - 1 +- 1.96
        moved = bias_corrected_interval(0.0, draws, 0.95)
        assert (moved.low, moved.high) == pytest.approx((-2.96, 0.96), abs=0.15)
        with pytest.raises(UndefinedError):
            bias_corrected_interval(1.0, np.ones(10), 0.95)
        with pytest.raises(ConfigError):
            bias_corrected_interval(1.0, [1.0, np.nan], 0.95)

    @pytest.mark.slow
    def test_coverage(self):
        rng = np.random.default_rng(8)

        def draw(images: int) -> tuple[np.ndarray, np.ndarray]:
            truth = (rng.random(images) < 0.3).astype(int)
            return truth, 1.2 * truth + rng.normal(size=images)

        truth = np.mean([average_precision(*draw(100_000)) for _ in range(4)])
        hits, simulations = 0, 500
        for _ in range(simulations):
            y, s = draw(200)
            weights = rng.multinomial(200, np.full(200, 1 / 200), size=400).astype(float)
            one = bias_corrected_interval(average_precision(y, s), weighted_average_precision(y, s, weights), 0.95)
            hits += one.low <= truth <= one.high
        assert hits / simulations == pytest.approx(0.95, abs=0.02 + 0.01)  # standard error 1 %


class TestBrier:
    def test_equals_scikit_learn(self):
        truth, p = example()
        both = np.stack([1 - p, p], axis=1)
        assert brier_losses(truth, both)[:, 1].mean() == pytest.approx(brier_score_loss(truth, p))
        assert brier_score(truth, both) == pytest.approx(2 * brier_score_loss(truth, p))
        assert brier_parts(truth, p).brier == pytest.approx(brier_score_loss(truth, p))

    def test_bounds(self):
        assert brier_score([0, 1], [[1, 0], [0, 1]]) == 0
        assert brier_score([0, 1], [[0, 1], [1, 0]]) == 2

    def test_parts_by_hand(self):
        # forecasts .2 (one of four ill) and .6 (three of four): already in order, so this is Murphy's decomposition
        truth, p = [1, 0, 0, 0, 1, 1, 1, 0], [0.2] * 4 + [0.6] * 4
        parts = brier_parts(truth, p)
        assert parts.miscalibration == pytest.approx(0.5 * 0.05**2 + 0.5 * 0.15**2)
        assert parts.discrimination == pytest.approx(0.25**2)
        assert parts.uncertainty == 0.25
        assert parts.refinement == pytest.approx(0.25 - 0.0625)
        assert parts.brier == pytest.approx(parts.miscalibration + parts.refinement)

    def test_parts_against_scikit_learns_isotonic_fit(self):
        truth, p = example(decimals=1)
        fitted = IsotonicRegression().fit(p, truth).predict(p)
        parts = brier_parts(truth, p)
        assert parts.refinement == pytest.approx(((fitted - truth) ** 2).mean())
        assert parts.miscalibration >= 0
        assert parts.discrimination >= 0

    def test_recalibrating_leaves_refinement_alone(self):
        truth, p = example()
        before, after = brier_parts(truth, p), brier_parts(truth, p**3)
        assert after.refinement == pytest.approx(before.refinement)
        assert after.miscalibration > before.miscalibration

    def test_refused(self):
        with pytest.raises(UndefinedError):
            brier_parts([1, 1], [0.2, 0.3])
        with pytest.raises(ConfigError, match=r"must be in \[0, 1\]"):
            brier_parts([1, 0], [1.2, 0.3])
        with pytest.raises(ConfigError, match="add up to 1"):
            brier_losses([1, 0], [[0.2, 0.2], [0.5, 0.5]])


class TestCalibration:
    def test_bins_are_equal_and_never_part_ties(self):
        p = np.random.default_rng(0).random(103)
        assert np.ptp(np.bincount(equal_mass_bins(p, 10))) <= 1
        tied = np.repeat([0.1, 0.5, 0.9], [50, 3, 47])
        assert all(len(set(equal_mass_bins(tied, 10)[tied == value])) == 1 for value in (0.1, 0.5, 0.9))
        assert (np.diff(equal_mass_bins(np.sort(p), 7)) >= 0).all()

    def test_a_run_of_ties_goes_to_the_bin_of_its_middle(self):
        # the images of 0.5 are number 31 to 90 of 100: their middle is in the upper half
        tied = np.repeat([0.1, 0.5, 0.9], [30, 60, 10])
        assert np.bincount(equal_mass_bins(tied, 2)).tolist() == [30, 70]

    def test_curve_by_hand(self):
        truth, p = [1, 0, 0, 0, 1, 1, 1, 0], [0.2] * 4 + [0.6] * 4
        curve = calibration_curve(truth, p, bins=2)
        assert [(b.images, b.predicted, b.observed.estimate) for b in curve.bins] == [
            (4, pytest.approx(0.2), 0.25),
            (4, pytest.approx(0.6), 0.75),
        ]
        assert curve.ece == pytest.approx(0.1)
        # (.05^2 - .1875/3 + .15^2 - .1875/3) / 2
        assert curve.squared_error_debiased == pytest.approx((0.0025 + 0.0225) / 2 - 0.0625)

    def test_debiased_error_is_unbiased_and_ece_is_not(self):
        rng = np.random.default_rng(1)
        eces, squares, above = [], [], 0
        for _ in range(400):
            p = rng.random(200)
            curve = calibration_curve(rng.random(200) < p, p, simulations=100)
            eces.append(curve.ece)
            squares.append(curve.squared_error_debiased)
            above += curve.ece > curve.ece_if_calibrated_95
        assert np.mean(eces) > 0.05
        assert np.mean(eces) == pytest.approx(curve.ece_if_calibrated, rel=0.1)
        assert abs(np.mean(squares)) < 3 * np.std(squares) / 20
        assert above / 400 == pytest.approx(0.05, abs=0.035)  # standard error 1.1 %

    def test_miscalibration_is_seen(self):
        rng = np.random.default_rng(2)
        p = rng.random(2000)
        curve = calibration_curve(rng.random(2000) < p**2, p)
        assert curve.ece > curve.ece_if_calibrated_95
        # E (p - p^2)^2 = 1/3 - 1/2 + 1/5
        assert curve.squared_error_debiased == pytest.approx(1 / 30, abs=0.01)

    def test_undefined(self):
        with pytest.raises(UndefinedError, match="ask for fewer bins"):
            calibration_curve([0, 1, 0], [0.1, 0.2, 0.3])
        with pytest.raises(UndefinedError):
            calibration_curve([0, 1, 0, 1], [0.5] * 4)
        with pytest.raises(ConfigError, match="bins=1"):
            calibration_curve([0, 1], [0.1, 0.2], bins=1)


class TestRecalibration:
    def test_equals_statsmodels_with_and_without_clusters(self):
        truth, p = example(300, decimals=3)
        p = np.clip(p, 0.01, 0.99) ** 1.5
        odds = np.log(p / (1 - p))
        groups = np.arange(300) // 3
        found = recalibration(truth, p, groups)
        factor = 100 / 99
        correction = {"groups": groups, "use_correction": False}
        line = sm.GLM(truth, sm.add_constant(odds), sm.families.Binomial()).fit(
            cov_type="cluster", cov_kwds=correction, tol=1e-12
        )
        shift = sm.GLM(truth, np.ones(300), sm.families.Binomial(), offset=odds).fit(
            cov_type="cluster", cov_kwds=correction, tol=1e-12
        )
        for one, value, error in (
            (found.slope, line.params[1], line.bse[1]),
            (found.intercept, shift.params[0], shift.bse[0]),
        ):
            assert one.estimate == pytest.approx(value, abs=1e-6)
            assert one.high - one.estimate == pytest.approx(1.959964 * error * factor**0.5, rel=1e-5)

    @pytest.mark.slow
    def test_coverage_over_patients(self):
        rng = np.random.default_rng(3)
        hits, simulations = np.zeros(2), 1500
        names = np.repeat(np.arange(120), 2)
        for _ in range(simulations):
            p = np.repeat(rng.uniform(0.05, 0.95, 120), 2)
            # both images of a patient have the same outcome half of the time
            own = rng.random(240) < p
            truth = np.where(np.repeat(rng.random(120) < 0.5, 2), np.repeat(own[::2], 2), own)
            found = recalibration(truth, p, names)
            hits += [found.slope.low <= 1 <= found.slope.high, found.intercept.low <= 0 <= found.intercept.high]
        assert hits / simulations == pytest.approx([0.95, 0.95], abs=0.02)

    def test_undefined(self):
        with pytest.raises(UndefinedError, match="separate the class completely"):
            recalibration([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
        with pytest.raises(UndefinedError, match="separate the class completely"):
            recalibration([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9])
        with pytest.raises(UndefinedError, match="alike"):
            recalibration([0, 1], [0.5, 0.5])

    def test_zero_and_one_are_moved_inward_and_counted(self):
        truth, p = example(100)
        p[:3], truth[:3] = [0.0, 1.0, 0.0], [0, 1, 1]
        found = recalibration(truth, p)
        assert found.clipped == 2 + int((p[2:] == 0).sum()) + int((p[2:] == 1).sum())
        assert np.isfinite([found.slope.low, found.slope.high]).all()


class TestDecisionCurve:
    @pytest.mark.parametrize("prevalence", [None, 0.1])
    def test_equals_dcurves(self, prevalence):
        truth, p = example()
        at = [0.05, 0.1, 0.25, 0.5, 0.77]
        found = decision_curve(truth, p, thresholds=at, prevalence=prevalence)
        table = dca(
            data=pd.DataFrame({"y": truth, "model": p}),
            outcome="y",
            modelnames=["model"],
            thresholds=at,
            prevalence=prevalence,
        )
        for name, values in (("model", found.net_benefit), ("all", found.treat_all)):
            assert values == pytest.approx(table[table["model"] == name].sort_values("threshold")["net_benefit"])

    def test_limits_by_hand(self):
        # net benefit is a mean over images of 1 (hit), -t/(1-t) (false alarm) or 0: its limits are those of a mean
        truth, p = example()
        worth = np.where(p >= 0.3, np.where(truth == 1, 1.0, -0.3 / 0.7), 0.0)
        one = decision_curve(truth, p, thresholds=[0.3])
        assert one.net_benefit[0] == pytest.approx(worth.mean())
        assert one.high[0] - one.net_benefit[0] == pytest.approx(1.959964 * worth.std(ddof=1) / 200**0.5, rel=1e-6)

    def test_calling_everyone_is_treat_all_and_no_one_is_zero(self):
        truth = [1, 0, 0, 1, 0]
        everyone = decision_curve(truth, np.ones(5))
        assert everyone.net_benefit == pytest.approx(everyone.treat_all)
        assert decision_curve(truth, np.zeros(5)).net_benefit == (0.0,) * len(everyone.thresholds)

    @pytest.mark.parametrize("prevalence", [None, 0.1])
    def test_coverage_over_patients(self, prevalence):
        rng = np.random.default_rng(6)
        simulations, at, names = 1500, 0.3, np.repeat(np.arange(150), 2)

        def draw(patients: int) -> tuple[np.ndarray, np.ndarray]:
            ill = np.repeat(rng.random(patients) < 0.4, 2)
            z = 1.5 * ill - 1 + 0.8 * np.repeat(rng.normal(size=patients), 2) + 0.6 * rng.normal(size=2 * patients)
            return ill, 1 / (1 + np.exp(-z))

        def value(truth: np.ndarray, p: np.ndarray):
            return decision_curve(truth, p, thresholds=[at], prevalence=prevalence)

        truth = np.mean([value(*draw(200_000)).net_benefit[0] for _ in range(3)])
        hits = 0
        for _ in range(simulations):
            ill, p = draw(150)
            one = decision_curve(ill, p, names, thresholds=[at], prevalence=prevalence)
            hits += one.low[0] <= truth <= one.high[0]
        assert hits / simulations == pytest.approx(0.95, abs=0.02)

    def test_refused(self):
        for wrong in ([0.0], [1.0], []):
            with pytest.raises(ConfigError, match="thresholds"):
                decision_curve([0, 1], [0.1, 0.9], thresholds=wrong)
        with pytest.raises(ConfigError, match="prevalence=0"):
            decision_curve([0, 1], [0.1, 0.9], prevalence=0)


class TestMcNemar:
    def test_equals_statsmodels(self):
        rng = np.random.default_rng(0)
        first, second = rng.random(80) < 0.8, rng.random(80) < 0.6
        table = [
            [(first & second).sum(), (first & ~second).sum()],
            [(~first & second).sum(), (~first & ~second).sum()],
        ]
        found = mcnemar(first, second)
        assert found.p_value == pytest.approx(sm_mcnemar(table, exact=True).pvalue)
        assert (found.only_first, found.only_second) == (table[0][1], table[1][0])
        assert mcnemar([1] * 5, [0] * 5).p_value == pytest.approx(2 / 32)

    def test_undefined(self):
        with pytest.raises(UndefinedError, match="same images"):
            mcnemar([1, 0], [1, 0])
        with pytest.raises(ConfigError):
            mcnemar([1, 0], [1])


@pytest.mark.parametrize(
    ("low", "high", "outcome", "worse"),
    [
        (-0.03, 0.02, "non-inferior", False),
        (-0.04, -0.01, "non-inferior", True),
        (-0.05, 0.02, "not shown", False),
        (-0.09, 0.02, "not shown", False),
        (-0.09, -0.05, "not shown", True),
        (-0.09, -0.06, "inferior", True),
    ],
)
def test_verdict(low, high, outcome, worse):
    found = noninferiority(low, high, 0.05)
    assert (found.outcome, found.worse) == (outcome, worse)


def test_verdict_refuses_what_it_cannot_judge():
    for low, high, margin in ((0.1, 0.0, 0.05), (np.nan, 0.1, 0.05), (0.0, 0.1, 0.0), (0.0, 0.1, -0.05)):
        with pytest.raises(ConfigError):
            noninferiority(low, high, margin)


def test_what_is_neither_ill_nor_well_and_one_patient_too_many_are_refused():
    with pytest.raises(ConfigError, match="must hold 0 and 1"):
        average_precision([0, 1, 2], [0.1, 0.2, 0.3])
    with pytest.raises(ConfigError, match="4 patient identifiers for 3 images"):
        as_patients(["a", "b", "c", "d"], 3)
    with pytest.raises(ConfigError, match="truth"):  # misuse is not taken for a value that the data do not define
        or_undefined(lambda: average_precision([0, 1, 2], [0.1, 0.2, 0.3]))
