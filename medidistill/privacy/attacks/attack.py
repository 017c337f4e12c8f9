"""What an attack is to everything that reports on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medidistill.statistics import BoolArray, FloatArray

__all__ = ["AttackInfo", "ShadowScore"]

# (R, P) statistic of each patient in each shadow run, (R, P) whether they were in -> (R, P) scores
ShadowScore = Callable[[FloatArray, BoolArray], FloatArray]


@dataclass(frozen=True)
class AttackInfo:
    """An attack: what it is called, what it asks, and how it is scored where shadow runs are enough for that.

    Args:
        name: in audits, policies and tables.
        title: its name for a reader.
        threat: what the attacker has and wants.
        misses: how it can fail silently.
        criterion: of the Article 29 Working Party's opinion 05/2014 (WP216).
        meaning: one sentence for a data-protection officer.
        short: what the bundle's table of measurements calls it, where that differs from the title.
        score: of patients in shadow runs; the policy's limit for members then applies to it.
    """

    name: str
    title: str
    threat: str
    misses: str
    criterion: str
    meaning: str
    short: str = ""
    score: ShadowScore | None = None
