from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from medidistill.errors import ConfigError
from medidistill.privacy.attacks.one_run import one_run_bound, one_run_epsilon, one_run_p_value
from medidistill.privacy.statistics import (
    Attack,
    auc_score,
    binomial_tail,
    epsilon_lower,
    members_needed,
    nonmembers_needed,
    passes_by_chance,
    trials_needed,
)
from medidistill.results.audit import UnresolvedPoint
from medidistill.statistics import clopper_pearson_limits


def attack(members: np.ndarray, others: np.ndarray, seed: int = 0) -> Attack:
    scores = np.concatenate([members, others])
    member = np.arange(len(scores)) < len(members)
    return Attack(scores, member, np.arange(len(scores)), np.random.default_rng(seed).permutation(len(scores)))


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (3, 10), (10, 10), (6, 500)])
def test_clopper_pearson_is_the_textbook_one(hits: int, trials: int) -> None:
    expected = proportion_confint(hits, trials, method="beta")
    assert clopper_pearson_limits(hits, trials) == pytest.approx(np.nan_to_num(expected, nan=0.0 if hits == 0 else 1.0))


def test_limits_of_shares_lie_between_those_of_whole_hits() -> None:
    low, middle, high = (clopper_pearson_limits(hits, 100) for hits in (3, 3.5, 4))
    assert low[0] < middle[0] < high[0]
    assert low[1] < middle[1] < high[1]


@pytest.mark.parametrize(("hits", "trials"), [(-1, 10), (11, 10), (0, 0)])
def test_impossible_counts_are_refused(hits: int, trials: int) -> None:
    with pytest.raises(ConfigError, match="0 <= hits <= trials"):
        clopper_pearson_limits(hits, trials)


def test_binomial_tail_is_the_sum() -> None:
    naive = sum(math.comb(15, k) * 0.7**k * 0.3 ** (15 - k) for k in range(14, 16))
    assert binomial_tail(14, 15, 0.7) == pytest.approx(naive)
    assert binomial_tail(0, 15, 0.7) == 1.0


def test_what_a_number_can_show() -> None:
    # three images can never give a linkage p below 0.125
    assert binomial_tail(3, 3, 0.5) == 0.125
    assert trials_needed(0.01, 0.5) == 7
    assert binomial_tail(7, 7, 0.5) < 0.01 < binomial_tail(6, 6, 0.5)
    assert nonmembers_needed(0.01) == 200
    needed = members_needed(0.03, 0.01)
    upper = [clopper_pearson_limits(0.01 * number, number)[1] for number in (needed, 0.9 * needed)]
    assert upper[0] <= 0.03 < upper[1]
    with pytest.raises(ConfigError, match="must be >"):
        members_needed(0.01, 0.01)


@pytest.mark.parametrize(("members", "others"), [(579, 484), (1159, 484), (300, 300)])
def test_how_often_silence_passes_is_what_audits_of_noise_show(members: int, others: int) -> None:
    rng = np.random.default_rng(2)
    passed = [attack(rng.normal(size=members), rng.normal(size=others)).at(0.01).high <= 0.03 for _ in range(400)]
    assert np.mean(passed) == pytest.approx(passes_by_chance(0.03, 0.01, members, others), abs=0.06)


def test_auc_is_sklearns_with_ties() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 50).astype(float), rng.integers(0, 5, 70).astype(float)
    assert auc_score(a, b) == pytest.approx(roc_auc_score([1] * 50 + [0] * 70, [*a, *b]))


def test_operating_point_against_a_naive_loop() -> None:
    rng = np.random.default_rng(1)
    found = attack(rng.normal(1, 1, 300), rng.normal(0, 1, 400), seed=3)
    first = set(found.order[found.order >= 300][:200].tolist())
    point, tpr, reached = found.at(0.05), [], []
    for half in (True, False):
        choosing = [found.scores[i] for i in range(300, 700) if (i in first) == half]
        threshold = np.quantile(choosing, 0.95, method="weibull")
        tpr.append(np.mean([s > threshold for s in found.scores[:300]]))
        reached.append(np.mean([found.scores[i] > threshold for i in range(300, 700) if (i in first) != half]))
    assert point.tpr == pytest.approx(np.mean(tpr))
    assert point.fpr_reached == pytest.approx(np.mean(reached))
    assert (point.low, point.high) == pytest.approx(clopper_pearson_limits(point.tpr * 300, 300))


def test_each_threshold_is_checked_on_the_half_that_did_not_choose_it() -> None:
    # the others of the second half score far above everything: their threshold finds nobody, that of the first half all
    scores = np.concatenate([np.full(100, 1.0), np.zeros(200), np.full(200, 9.0)])
    order = np.concatenate([np.arange(100, 300), np.arange(100), np.arange(300, 500)])
    point = Attack(scores, np.arange(500) < 100, np.arange(500), order).at(0.01)
    assert (point.tpr, point.fpr_reached) == (0.5, 0.5)


def test_an_attack_that_guesses_has_the_rate_it_is_judged_at_on_average() -> None:
    rng = np.random.default_rng(4)
    rates = [attack(rng.normal(size=400), rng.normal(size=480)).at(0.01).tpr for _ in range(400)]
    assert np.mean(rates) == pytest.approx(0.01, abs=4 * np.std(rates) / 20)
    assert np.mean(rates) < 0.0115  # the third highest of 240 would give 0.0124


def test_too_few_non_members_are_not_resolvable() -> None:
    point = attack(np.ones(50), np.zeros(50)).at(0.01)
    assert (point.resolvable, point.needs_nonmembers) == (False, 200)
    assert isinstance(point, UnresolvedPoint)


@pytest.mark.parametrize("seed", range(8))
def test_200_non_members_resolve_one_percent_whatever_the_order(seed: int) -> None:
    assert attack(np.ones(300), np.zeros(200), seed).at(0.01).resolvable
    assert not attack(np.ones(300), np.zeros(199), seed).at(0.01).resolvable


def test_many_runs_of_a_patient_count_once() -> None:
    # 20 runs of 60 patients: limits as wide as those of 60 patients
    rng = np.random.default_rng(2)
    scores, unit = rng.normal(size=20 * 60), np.tile(np.arange(60), 20)
    member = rng.random(1200) < 0.5
    point = Attack(scores, member, unit, rng.permutation(60)).at(0.1)
    assert point.members == 60
    assert (point.low, point.high) == pytest.approx(clopper_pearson_limits(point.tpr * 60, 60))


def test_limits_cover_when_the_patients_differ() -> None:
    # each patient has a level of his own: runs of one patient agree, and counting runs would be far too sure
    rng, threshold, covered = np.random.default_rng(3), stats.norm.isf(0.1, scale=math.sqrt(2)), 0
    for _ in range(200):
        level = rng.normal(size=80)
        scores = (level + rng.normal(size=(8, 80))).ravel()
        hits = (scores > threshold).reshape(8, 80).mean(0).sum()
        low, high = clopper_pearson_limits(hits, 80)
        covered += low <= 0.1 <= high
    assert covered >= 190


# epsilon


def gaussian_outputs(epsilon_sigma: float, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A sum of sensitivity 1 released with noise, with and without the target."""
    return rng.normal(1, epsilon_sigma, count), rng.normal(0, epsilon_sigma, count)


def gaussian_epsilon(sigma: float, delta: float) -> float:
    """The exact epsilon of the Gaussian mechanism (Balle and Wang 2018, theorem 8)."""

    def spent(eps: float) -> float:
        a, b = 1 / (2 * sigma) - eps * sigma, -1 / (2 * sigma) - eps * sigma
        return float(stats.norm.cdf(a) - math.exp(eps) * stats.norm.cdf(b))

    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > delta else (low, middle)
    return high


def test_the_right_mechanism_is_not_refuted_and_an_under_noised_one_is() -> None:
    delta, claimed = 1e-5, gaussian_epsilon(2.0, 1e-5)
    refuted = {2.0: 0, 0.25: 0}
    for sigma in refuted:
        for seed in range(20):
            rng = np.random.default_rng(seed)
            members, others = gaussian_outputs(sigma, 4000, rng)
            threshold = 1.5 if sigma == 2.0 else 0.75
            found = epsilon_lower((members > threshold).sum(), 4000, (others > threshold).sum(), 4000, delta)
            refuted[sigma] += found > claimed
    assert refuted == {2.0: 0, 0.25: 20}


def test_one_run_bound_holds_for_the_right_noise_and_catches_the_wrong_one() -> None:
    delta, claimed = 1e-5, gaussian_epsilon(1.0, 1e-5)
    above = {1.0: 0, 0.1: 0}
    for sigma in above:
        for seed in range(20):
            rng = np.random.default_rng(seed)
            included = rng.random(1000) < 0.5
            scores = included + rng.normal(0, sigma, 1000)  # each canary has a coordinate of its own
            above[sigma] += one_run_bound(scores, included, delta=delta).epsilon_lower > claimed
    assert above[1.0] == 0
    assert above[0.1] == 20


@pytest.mark.parametrize(("guesses", "ceiling"), [(50, 2.8), (200, 4.2), (1000, 5.8)])
def test_ceilings_of_the_one_run_bound(guesses: int, ceiling: float) -> None:
    assert one_run_epsilon(guesses, guesses, guesses) == pytest.approx(ceiling, abs=0.05)


def test_one_run_p_value_against_the_formula_in_a_loop() -> None:
    m, r, v, eps, delta = 100, 60, 45, 0.5, 1e-4
    q = math.exp(eps) / (1 + math.exp(eps))
    pmf = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    alpha = max(sum(pmf[v - i : v]) / i for i in range(1, v + 1))
    assert one_run_p_value(m, r, v, eps, delta) == pytest.approx(sum(pmf[v:]) + 2 * m * delta * alpha)
    assert one_run_p_value(m, r, 0, eps, delta) == 1.0
    with pytest.raises(ConfigError, match="must not increase"):
        one_run_p_value(10, 20, 5, 1.0)


def test_guessing_at_random_bounds_nothing() -> None:
    rng = np.random.default_rng(5)
    included = rng.random(400) < 0.5
    assert one_run_bound(rng.normal(size=400), included).epsilon_lower < 0.4
    assert one_run_epsilon(100, 50, 25) == 0.0
