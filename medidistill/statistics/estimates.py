"""Figures: an estimate with its limits, a figure that the data do not define, a figure that must not be shown.

A figure of a result is `Interval | Undefined`, or `Interval | Undefined | Suppressed` where a group may be too small to
be shown. A figure that is not defined is never zero, NaN or absent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["SUPPRESSED", "Interval", "Suppressed", "Undefined", "point_estimate"]


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence limits."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Undefined:
    """A figure that the data do not define: a class is absent, a variance is zero, a ratio has a zero below it.

    Args:
        undefined: what is missing.
        estimate: the point estimate, where the limits alone are undefined.
    """

    undefined: str
    estimate: float | None = field(default=None, metadata={"optional": True})


@dataclass(frozen=True)
class Suppressed:
    """A figure that is withheld because it is about few patients, or would give such a figure away."""

    def __str__(self) -> str:
        return "suppressed"


SUPPRESSED = Suppressed()


def point_estimate(value: Interval | Undefined | None) -> float | None:
    """Return the point estimate of a figure; None where there is none."""
    return None if value is None else value.estimate
