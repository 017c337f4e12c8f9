"""Statistics that the evaluation and the audit share: exact binomial limits, figures, patients as codes."""

from medidistill.statistics.arrays import BoolArray, FloatArray, IntArray
from medidistill.statistics.binomial import clopper_pearson_limits
from medidistill.statistics.estimates import SUPPRESSED, Interval, Suppressed, Undefined, point_estimate
from medidistill.statistics.patients import patient_codes

__all__ = [
    "SUPPRESSED",
    "BoolArray",
    "FloatArray",
    "IntArray",
    "Interval",
    "Suppressed",
    "Undefined",
    "clopper_pearson_limits",
    "patient_codes",
    "point_estimate",
]
