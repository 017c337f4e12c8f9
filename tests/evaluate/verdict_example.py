"""Made-up criteria and verdicts; no value was measured."""

from __future__ import annotations

from medidistill.evaluate.intervals import Interval
from medidistill.results.verdict import Criterion, Measure, Question, Verdict

MARGIN = 0.05
MEASURES = tuple(Measure)


def criterion(
    low: float | None, high: float = 0.0, *, against: str = "full", measure=Measure.AUROC, **others
) -> Criterion:
    """A criterion whose interval is [low, high]; without `low` its difference is not defined."""
    superior = against != "full"
    difference = None if low is None else Interval((low + high) / 2, low, high)
    fields = {
        "question": Question.SUPERIOR if superior else Question.NON_INFERIOR,
        "against": against,
        "measure": measure,
        "margin": 0.0 if superior else MARGIN,
        "patients": 120,
        "estimate": 0.8,
        "reference": 0.8,
        "difference": difference,
        "undefined": "" if difference else "an interval for AUROC",
    }
    return Criterion(**(fields | others))


def good(*, without: str = "") -> list[Criterion]:
    """Criteria that are all met, for the reference and two controls."""
    arms = {"full": (-0.02, 0.03), "packed": (0.04, 0.2), "random": (0.01, 0.1)}
    return [
        criterion(low, high, against=arm, measure=measure)
        for arm, (low, high) in arms.items()
        if arm != without
        for measure in MEASURES
    ]


def verdict(criteria: list[Criterion], **others) -> Verdict:
    fields = {
        "method": "iadd",
        "images_per_class": 10,
        "chosen_by": "Delivered is the set of IADD: the only method that was compared.",
        "criteria": tuple(criteria),
        "architecture": "convnet",
        "target_specificity": 0.9,
        "confidence": 0.95,
        "test_images": 300,
        "test_patients": 240,
        "patients_known": True,
        "patients_per_class": {"COVID-19": 120, "Normal": 120},
        "min_patients": 30,
    }
    return Verdict(**(fields | others))
