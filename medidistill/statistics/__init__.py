"""Statistics that the evaluation and the audit share: exact binomial limits, intervals, patients as codes."""

from medidistill.statistics.arrays import BoolArray, FloatArray, IntArray
from medidistill.statistics.binomial import clopper_pearson_limits
from medidistill.statistics.interval import Interval
from medidistill.statistics.patients import patient_codes

__all__ = ["BoolArray", "FloatArray", "IntArray", "Interval", "clopper_pearson_limits", "patient_codes"]
