"""What `recipe.json` of a bundle says of the set: its evaluation. Figures alone, no cell and no patient."""

from __future__ import annotations

from dataclasses import dataclass

from medidistill.results.comparison import Comparison
from medidistill.statistics import Interval

__all__ = ["BundleEvaluation", "EvaluationRow"]


@dataclass(frozen=True)
class EvaluationRow:
    """One arm with one architecture, as `medidistill.results.comparison.Row`."""

    arm: str
    architecture: str
    training_images: int
    networks: int
    balanced_accuracy: Interval
    macro_auroc: Interval


@dataclass(frozen=True)
class BundleEvaluation:
    """The figures of a comparison; what names single cells or patients stays behind.

    Args:
        rows: one an arm and architecture.
        test_images: that were scored.
        test_patients: that they show.
        confidence: level of the intervals, in (0, 1).
        notes: what a reader of the intervals must know, sentences.
    """

    rows: tuple[EvaluationRow, ...]
    test_images: int
    test_patients: int
    confidence: float
    notes: tuple[str, ...]

    @classmethod
    def of(cls, comparison: Comparison) -> BundleEvaluation:
        """Return what a bundle keeps of a comparison."""
        rows = tuple(
            EvaluationRow(
                row.arm, row.architecture, row.training_images, row.networks, row.balanced_accuracy, row.macro_auroc
            )
            for row in comparison.rows
        )
        test = comparison.test_images, comparison.test_patients
        return cls(rows, *test, comparison.confidence, comparison.notes)
