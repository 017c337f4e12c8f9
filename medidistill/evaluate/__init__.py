"""What a distilled set is worth: fresh networks trained on each arm, scored with intervals over patients."""

from __future__ import annotations

from medidistill.extras import require_extra

require_extra("evaluate")

from medidistill.evaluate.comparison import (  # noqa: E402
    ResampledScores,
    compare,
    compare_scores,
    resample_scores,
)
from medidistill.evaluate.protocol import Arm, ArmRun, arm_program, run_arm  # noqa: E402
from medidistill.evaluate.selection import herding_subset, kmeans_subset, random_subset  # noqa: E402
from medidistill.results.comparison import Comparison  # noqa: E402

__all__ = [
    "Arm",
    "ArmRun",
    "Comparison",
    "ResampledScores",
    "arm_program",
    "compare",
    "compare_scores",
    "herding_subset",
    "kmeans_subset",
    "random_subset",
    "resample_scores",
    "run_arm",
]
