"""What a distilled set is worth: fresh networks trained on each arm, scored with intervals over patients."""

from __future__ import annotations

from medidistill.evaluate.comparison import ResampledScores, compare, compare_scores, resample_scores
from medidistill.evaluate.protocol import Arm, ArmRun, run_arm
from medidistill.evaluate.selection import herding_subset, kmeans_subset, random_subset
from medidistill.results.comparison import Comparison

__all__ = [
    "Arm",
    "ArmRun",
    "Comparison",
    "ResampledScores",
    "compare",
    "compare_scores",
    "herding_subset",
    "kmeans_subset",
    "random_subset",
    "resample_scores",
    "run_arm",
]
