"""A lower bound on epsilon from canaries included by independent fair coin flips, in a single run.

Threat model: the attacker knows every canary and guesses which of them were in. An (epsilon, delta)-DP mechanism
lets at most a share e^eps / (1 + e^eps) of the guesses be right, up to chance. With m canaries, r guesses and v right
ones the hypothesis is rejected where

    P[B >= v] + 2 m delta max_{1<=i<=v} P[v - i <= B < v] / i  <=  1 - confidence,    B ~ Binomial(r, e^eps/(1+e^eps)).

Canaries spread over several runs count as those of one: each coin touches one run alone. Ceiling: with all guesses
right the bound cannot exceed log(c / (1 - c)), c = (1 - confidence)^(1/r): 2.8 for 50 guesses, 5.8 for 1000.
Failure modes: a low bound is no evidence of a small epsilon; weak guesses bound nothing.
Source: Steinke, Nasr, Jagielski 2023 (arXiv 2305.08846), theorem 5.2.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.privacy.attacks.attack import AttackInfo
from medidistill.privacy.statistics import CONFIDENCE
from medidistill.results.audit import OneRunBound
from medidistill.statistics import FloatArray

__all__ = ["ATTACK", "guess_count", "one_run_bound", "one_run_epsilon", "one_run_p_value"]

ATTACK = AttackInfo(
    "one_run",
    "Lower bound on epsilon",
    "guesses which canaries were in",
    "a low bound is no evidence of a small epsilon",
    "singling out",
    "A guarantee below this number would be contradicted by the measurement.",
)

_LARGEST = 30.0
_SHARE = 0.25


def guess_count(canaries: int, share: float = _SHARE) -> int:
    """Return how many guesses are made about `canaries`: `share` of them on either side, at least one."""
    return 2 * max(1, int(share * canaries))


def one_run_p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float = 0.0) -> float:
    """Return the largest probability of `right` or more right guesses under (epsilon, delta)-DP.

    Raises:
        ConfigError: not 0 <= right <= guesses <= canaries.
    """
    from scipy import stats

    if not 0 <= right <= guesses <= canaries or epsilon < 0:
        raise ConfigError(f"canaries={canaries}, guesses={guesses}, right={right}: must not increase")
    share = 1 / (1 + math.exp(-epsilon))
    beta = float(stats.binom.sf(right - 1, guesses, share))
    if delta == 0 or right == 0:
        return min(1.0, beta)
    below = np.cumsum(stats.binom.pmf(np.arange(right - 1, -1, -1), guesses, share))
    alpha = float((below / np.arange(1, right + 1)).max())
    return min(1.0, beta + 2 * canaries * delta * alpha)


def one_run_epsilon(
    canaries: int, guesses: int, right: int, delta: float = 0.0, confidence: float = CONFIDENCE
) -> float:
    """Return the largest epsilon that the guesses refute, 0 where they refute none."""
    from scipy import optimize

    def excess(epsilon: float) -> float:
        return one_run_p_value(canaries, guesses, right, epsilon, delta) - (1 - confidence)

    if excess(0.0) > 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, _LARGEST, xtol=1e-6)) if excess(_LARGEST) > 0 else _LARGEST


def one_run_bound(
    scores: FloatArray, included: npt.NDArray[np.bool_], *, share: float = _SHARE, delta: float = 0.0
) -> OneRunBound:
    """Guess "in" for the highest and "out" for the lowest scores, abstain between, and bound epsilon.

    Args:
        scores: (m,) float64; high means included.
        included: (m,) bool, decided by fair coins.
        share: part of the canaries that each side guesses; fixed before the scores are seen.
        delta: of the hypothesis.
    """
    order = np.argsort(scores, kind="stable")
    side = guess_count(len(scores), share) // 2
    right = int(included[order[-side:]].sum() + (~included[order[:side]]).sum())
    return OneRunBound(
        canaries=len(scores),
        guesses=2 * side,
        right=right,
        delta=delta,
        epsilon_lower=one_run_epsilon(len(scores), 2 * side, right, delta),
        ceiling=one_run_epsilon(len(scores), 2 * side, 2 * side, delta),
    )
