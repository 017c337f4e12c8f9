"""Exact statistics of attacks: binomial limits, operating points, and the resolution of a sample of patients.

A rate that the sample cannot resolve is marked, never rounded to "no leak". Sources: Clopper and Pearson 1934
(Biometrika 26); Carlini et al. 2022 (arXiv 2112.03570) for the true-positive rate at a low false-positive rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.results.audit import AttackSummary, RatePoint, UnresolvedPoint
from medidistill.statistics import FloatArray, clopper_pearson_limits

__all__ = [
    "MEASURED_FPRS",
    "Attack",
    "auc_score",
    "binomial_tail",
    "epsilon_lower",
    "members_needed",
    "nonmembers_needed",
    "passes_by_chance",
    "trials_needed",
]

CONFIDENCE = 0.95
MEASURED_FPRS = (0.01, 0.001)  # false-positive rates at which every attack is summarised


def binomial_tail(hits: int, trials: int, chance: float) -> float:
    """Return P[Binomial(trials, chance) >= hits], the exact one-sided p value."""
    from scipy import stats

    return float(stats.binom.sf(hits - 1, trials, chance))


def trials_needed(p_value: float, chance: float) -> int:
    """Return the smallest number of trials that gives a p value below `p_value` when all of them hit."""
    return math.floor(math.log(p_value) / math.log(chance)) + 1


def nonmembers_needed(fpr: float) -> int:
    """Return the number of non-members of which half resolve `fpr`: at least one false positive is expected."""
    return 2 * math.ceil(1 / fpr - 1e-9)


def members_needed(limit: float, fpr: float, confidence: float = CONFIDENCE) -> int:
    """Return the number of members with which a chance-level attack (TPR = FPR) is shown to stay below `limit`.

    Raises:
        ConfigError: `limit` is not above `fpr`: no number of members could show it.
    """
    if limit <= fpr:
        raise ConfigError(f"limit {limit:g} of the true positives: must be > the rate of false positives {fpr:g}")
    number = 1
    while clopper_pearson_limits(fpr * number, number, confidence)[1] > limit:
        number += max(1, number // 50)
    return number


def passes_by_chance(limit: float, fpr: float, members: int, others: int, confidence: float = CONFIDENCE) -> float:
    """Return the probability that an attack no better than chance is shown to stay below `limit`.

    The true FPR of a threshold that leaves `fpr` of `others` above it is beta distributed over non-members; the number
    of members above it is then binomial. Patients are counted as observed once: with more runs it passes more often.

    Args:
        limit: of the upper limit of the true positives.
        fpr: at this rate of false positives.
        members: number of members, patients or canaries.
        others: non-members, whose scores set the threshold.
        confidence: of the upper limit.
    """
    from scipy import stats

    most = -1
    while most < members and clopper_pearson_limits(most + 1, members, confidence)[1] <= limit:
        most += 1
    return float(stats.betabinom.cdf(most, members, fpr * (others + 1), (1 - fpr) * (others + 1)))


def auc_score(members: FloatArray, others: FloatArray) -> float:
    """Return P[member's score > other's score], ties half."""
    from scipy import stats

    ranks = stats.rankdata(np.concatenate([members, others]))
    above = ranks[: len(members)].sum() - len(members) * (len(members) + 1) / 2
    return float(above / (len(members) * len(others)))


def epsilon_lower(
    hits: float, members: int, false_hits: float, others: int, delta: float = 0.0, confidence: float = CONFIDENCE
) -> float:
    """Return the lower bound on epsilon from one test's true and false positives: max(0, log((TPR - delta) / FPR)).

    Both rates are taken at their unfavourable exact limit; each limit fails with (1 - confidence) / 2.
    Source: Jagielski, Ullman, Oprea 2020 (arXiv 2006.07709).
    """
    low, _ = clopper_pearson_limits(hits, members, confidence)
    _, high = clopper_pearson_limits(false_hits, others, confidence)
    return max(0.0, math.log((low - delta) / high)) if low > delta else 0.0


@dataclass(frozen=True)
class Attack:
    """Scores of an attack, one row an observation; higher means "member".

    Args:
        scores: (N,) float64.
        member: (N,) bool, the truth.
        unit: (N,) int64, the patient or canary that an observation belongs to. Limits count each unit once, however
            many runs it was observed in: observations of one patient are not independent.
        order: (U,) a permutation of the units; the first half of the non-members in it chooses the threshold.
    """

    scores: FloatArray
    member: npt.NDArray[np.bool_]
    unit: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.scores) == len(self.member) == len(self.unit) or not np.isfinite(self.scores).all():
            raise ConfigError("an attack needs one finite score, truth and unit for each observation")
        if self.member.all() or not self.member.any():
            raise ConfigError("an attack needs members and non-members")

    def auc(self) -> float:
        """Return the area under the ROC curve over all observations."""
        return auc_score(self.scores[self.member], self.scores[~self.member])

    def _share(self, hit: npt.NDArray[np.bool_], chosen: npt.NDArray[np.bool_]) -> tuple[float, int]:
        """Return (sum over units of their share of hits, number of units) among the chosen observations."""
        counts = np.bincount(self.unit[chosen])
        hits = np.bincount(self.unit[chosen], hit[chosen], minlength=len(counts))
        seen = counts > 0
        return float((hits[seen] / counts[seen]).sum()), int(seen.sum())

    def at(self, fpr: float, confidence: float = CONFIDENCE) -> RatePoint | UnresolvedPoint:
        """Return the true positives at a rate of false positives.

        Each half of the units chooses a threshold on its non-members; the reached rate of false positives is measured
        on those of the other half, the true positives on all members, and both are averaged over the two thresholds: a
        single threshold from two hundred non-members has a true FPR between 0.1 and 3 %. A point is unresolved where a
        half cannot hold one false positive at `fpr`.
        """
        outside = self.order[np.isin(self.order, self.unit[~self.member])]
        others = len(outside)
        # equal halves of the non-members themselves: whether a rate resolves must follow from their number alone
        first = np.isin(self.unit, outside[: others // 2])
        halves = [(~self.member & half, ~self.member & ~half) for half in (first, ~first)]
        members = len(np.unique(self.unit[self.member]))
        if min(len(np.unique(self.unit[choosing])) for choosing, _ in halves) * fpr < 1 - 1e-9:
            return UnresolvedPoint(fpr, members, others, confidence, nonmembers_needed(fpr))
        rates, bounds = [], []
        for choosing, checking in halves:
            hit = self.scores > _threshold(self.scores[choosing], fpr)
            (true, n_true), (false, n_false) = self._share(hit, self.member), self._share(hit, checking)
            rates.append((true / n_true, false / n_false))
            bounds.append(epsilon_lower(true, n_true, false, n_false, confidence=confidence))
        tpr, reached = (sum(values) / 2 for values in zip(*rates, strict=True))
        low, high = clopper_pearson_limits(tpr * members, members, confidence)
        return RatePoint(
            fpr=fpr,
            members=members,
            nonmembers=others,
            confidence=confidence,
            tpr=tpr,
            low=low,
            high=high,
            fpr_reached=reached,
            epsilon_lower=bounds[0],  # of one threshold: the larger of two would be right less often
        )

    def summary(self) -> AttackSummary:
        """Return AUC, and the true positives at `MEASURED_FPRS`."""
        return AttackSummary(self.auc(), tuple(self.at(fpr) for fpr in MEASURED_FPRS))


def _threshold(scores: FloatArray, fpr: float) -> float:
    """Return the score above which a new non-member lies with probability `fpr`, on average over such samples.

    The k-th highest of n is exceeded with k / (n + 1); between two of them it is interpolated.
    """
    ordered = np.sort(scores)[::-1]
    place = min(max(fpr * (len(ordered) + 1) - 1, 0.0), len(ordered) - 1.0)
    low = math.floor(place + 1e-9)
    part = max(0.0, place - low)
    return float(ordered[low] + part * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]))
