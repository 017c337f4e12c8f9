"""Is one model at most `margin` worse than another? Three outcomes, read from the interval of the difference.

    non-inferior   the whole interval lies above -margin
    inferior       the whole interval lies below -margin
    not shown      it holds -margin: these patients do not decide it

With a two-sided 95 % interval the claim "non-inferior" is wrong in at most 2.5 % of studies. The margin is a clinical
decision and must be stated before the test split is opened; a margin chosen afterwards proves nothing. "Non-inferior"
and "worse" can both be true: an interval of [-0.03, -0.01] with a margin of 0.05.

Source: Piaggio et al. 2012, JAMA 308 (CONSORT for non-inferiority); Obuchowski 1997, Academic Radiology 4 (AUROC).
"""

from __future__ import annotations

from dataclasses import dataclass

from medidistill.errors import ConfigError

__all__ = ["Verdict", "noninferiority"]


@dataclass(frozen=True)
class Verdict:
    """`outcome`: `non-inferior`, `not shown` or `inferior`; `worse`: the whole interval lies below zero."""

    outcome: str
    margin: float
    low: float
    high: float
    worse: bool


def noninferiority(low: float, high: float, margin: float) -> Verdict:
    """Judge the interval [`low`, `high`] of (new - reference), higher is better, at `margin` > 0.

    Raises:
        ConfigError: limits that are not ordered or finite, or a margin outside (0, 1).
    """
    if not -1e9 < low <= high < 1e9:
        raise ConfigError(f"interval [{low}, {high}]: must be finite and ordered")
    if not 0 < margin < 1:
        raise ConfigError(f"margin={margin}: must be in (0, 1); state it before the test split is opened")
    outcome = "non-inferior" if low > -margin else "inferior" if high < -margin else "not shown"
    return Verdict(outcome, margin, low, high, high < 0)
