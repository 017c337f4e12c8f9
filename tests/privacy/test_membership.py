from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from medidistill.errors import ConfigError
from medidistill.privacy.attacks.linkage import correlation_distance, high_pass, linkage_audit
from medidistill.privacy.attacks.membership import (
    by_patient,
    equally_many,
    lira_scores,
    offline_scores,
    phi,
    rmia_scores,
)
from medidistill.privacy.statistics import auc_score


def half_members(runs: int, patients: int, rng: np.random.Generator) -> np.ndarray:
    members = np.zeros((runs, patients), dtype=bool)
    for patient in range(patients):
        members[rng.permutation(runs)[: runs // 2], patient] = True
    return members


def test_phi_is_the_log_odds_of_the_true_class() -> None:
    logits = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = np.array([0, 1, 2, 3, 1])
    p = torch.softmax(logits, -1).numpy()[:, np.arange(5), labels]
    np.testing.assert_allclose(phi(torch.log_softmax(logits, -1).numpy(), labels), np.log(p / (1 - p)))


def test_patients_are_means_of_their_images() -> None:
    values = np.arange(6.0).reshape(1, 6)
    np.testing.assert_allclose(by_patient(values, np.array([0, 1, 1, 2, 2, 2])), [[0, 1.5, 4]])


def test_lira_against_a_loop_that_leaves_the_run_out() -> None:
    rng = np.random.default_rng(0)
    members = half_members(8, 5, rng)
    values = rng.normal(size=(8, 5)) + members
    scores = lira_scores(values, members)

    draws = np.random.default_rng(0)

    def moments(run: int, inside: bool) -> tuple[np.ndarray, float]:
        side = (members == inside) & (np.arange(8) != run)[:, None]
        kept = equally_many(side, np.full(5, 3), draws)  # the run's own side has three others, the other side four
        groups = [[values[r, p] for r in range(8) if kept[r, p]] for p in range(5)]
        assert all(len(group) == 3 for group in groups)
        freedom = sum(len(group) - 1 for group in groups)
        shared = sum(np.var(group, ddof=1) * (len(group) - 1) for group in groups) / freedom
        return np.array([np.mean(group) for group in groups]), shared

    for run in range(8):
        (mean_in, var_in), (mean_out, var_out) = moments(run, True), moments(run, False)
        expected = stats.norm.logpdf(values[run], mean_in, var_in**0.5) - stats.norm.logpdf(
            values[run], mean_out, var_out**0.5
        )
        np.testing.assert_allclose(scores[run], expected)


def test_many_shadows_use_each_patients_own_variance() -> None:
    rng = np.random.default_rng(1)
    members = half_members(64, 3, rng)
    values = rng.normal(size=(64, 3)) * np.array([1.0, 10.0, 0.1])
    others, draws = (np.arange(64) != 0)[:, None], np.random.default_rng(0)
    sides = [equally_many(side & others, np.full(3, 31), draws) for side in (members, ~members)]
    inside, outside = ([values[r, 1] for r in range(64) if side[r, 1]] for side in sides)
    assert len(inside) == len(outside) == 31
    expected = stats.norm.logpdf(values[0, 1], np.mean(inside), np.std(inside, ddof=1)) - stats.norm.logpdf(
        values[0, 1], np.mean(outside), np.std(outside, ddof=1)
    )
    assert lira_scores(values, members)[0, 1] == pytest.approx(expected)


def test_lira_and_the_attack_on_the_set_are_fair_where_nothing_leaks() -> None:
    rng = np.random.default_rng(3)
    areas = []
    for _ in range(12):
        members = half_members(16, 600, rng)
        scores = lira_scores(rng.normal(size=(16, 600)), members)
        areas.append(stats.mannwhitneyu(scores[members], scores[~members]).statistic / members.sum() / (~members).sum())
    # with one run more on the side where the own one is not, the mean was .492
    assert abs(np.mean(areas) - 0.5) < 3 * np.std(areas, ddof=1) / 12**0.5 + 0.0005
    assert abs(np.mean(areas) - 0.5) < 0.004


def test_equally_many_keeps_the_count_of_what_was_chosen_and_no_other() -> None:
    rng = np.random.default_rng(0)
    chosen = rng.random((20, 7)) < 0.6
    counts = np.minimum(chosen.sum(axis=0), 4)
    kept = equally_many(chosen, counts, rng)
    assert not (kept & ~chosen).any()
    np.testing.assert_array_equal(kept.sum(axis=0), counts)


def test_lira_finds_members_and_finds_nothing_where_there_is_nothing() -> None:
    rng = np.random.default_rng(2)
    members = half_members(16, 200, rng)
    level = rng.normal(size=200) * 5
    for effect, low, high in ((2.0, 0.8, 1.0), (0.0, 0.45, 0.55)):
        values = level + rng.normal(size=(16, 200)) + effect * members
        for score in (lira_scores, rmia_scores):
            found = score(values, members)
            auc = auc_score(found[members], found[~members])
            assert low < auc <= high, (score.__name__, effect, auc)


def test_too_few_shadows_are_refused() -> None:
    members = half_members(4, 5, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="two or more of the other shadows"):
        lira_scores(np.zeros((4, 5)), members)
    with pytest.raises(ConfigError, match="two shadows"):
        offline_scores(np.zeros(5), np.zeros((2, 5)), np.array([[True] * 5, [False] * 5]))


def test_rmia_against_a_loop() -> None:
    rng = np.random.default_rng(3)
    members = half_members(6, 9, rng)
    values = rng.normal(size=(6, 9))
    p = 1 / (1 + np.exp(-values))
    scores = rmia_scores(values, members)
    for run in range(6):
        reference = np.array([np.mean([p[r, x] for r in range(6) if r != run]) for x in range(9)])
        ratio = p[run] / reference
        for x in range(9):
            pool = [z for z in range(9) if not members[run, z] and z != x]
            size = max(1, sum(~members[run]) - 1)
            assert scores[run, x] == pytest.approx(sum(ratio[x] >= ratio[z] for z in pool) / size)


def test_offline_scores_ignore_the_runs_that_held_the_patient() -> None:
    rng = np.random.default_rng(4)
    outside = rng.normal(size=(10, 6))
    out = half_members(10, 6, rng)
    changed = np.where(out, outside, 99.0)
    own = rng.normal(size=6)
    np.testing.assert_allclose(offline_scores(own, outside, out), offline_scores(own, changed, out))


# copies


def pictures(count: int, seed: int) -> torch.Tensor:
    coarse = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")


def test_distance_is_one_minus_the_correlation() -> None:
    a, b = pictures(3, 0), pictures(4, 1)
    naive = [[1 - np.corrcoef(x.flatten(), y.flatten())[0, 1] for y in b] for x in a]
    np.testing.assert_allclose(correlation_distance(a, b), naive, atol=1e-5)
    np.testing.assert_allclose(correlation_distance(a, 3 * a + 2).diagonal(), 0, atol=1e-5)


def test_the_high_pass_removes_what_is_smooth() -> None:
    rows = torch.linspace(-1, 1, 32).view(1, 1, -1, 1).expand(1, 1, 32, 32)
    fine = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert high_pass(torch.full((1, 1, 32, 32), 3.0)).abs().max() < 1e-5
    assert high_pass(rows)[..., 8:24, :].abs().max() < 0.01
    assert high_pass(fine).std() > 0.9 * fine.std()


def test_copies_are_found_and_non_members_are_not() -> None:
    members, others, third = pictures(100, 0), pictures(100, 1), pictures(30, 2)
    copied = linkage_audit(members[:30] + 0.1 * torch.randn(30, 1, 32, 32), members, others)
    honest = linkage_audit(third, members, others)
    for view in ("pixels", "high_pass"):
        assert getattr(copied, view).p_value < 1e-6
        assert getattr(copied, view).nearer_than_limit == 30
        assert getattr(honest, view).p_value > 0.01
    assert copied.needs_images == 7
    # unequal numbers: chance is the members' share
    assert linkage_audit(third, members, others[:50]).chance == pytest.approx(2 / 3)
    with pytest.raises(ConfigError, match="needs some of each"):
        linkage_audit(third, members, others[:0])
