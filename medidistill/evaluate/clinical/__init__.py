"""Statistics for clinicians: one file a statistic, intervals over patients, undefined cases raised or marked."""

from __future__ import annotations

from medidistill.evaluate.clinical.checklist import checklist
from medidistill.evaluate.clinical.checks import UndefinedError
from medidistill.evaluate.clinical.comparison import clinical_comparison
from medidistill.evaluate.clinical.source_probe import ProbeData
from medidistill.evaluate.clinical.subgroups import age_bands, subgroup_table
from medidistill.evaluate.clinical.tables import curves_csv, figures_csv, subgroups_csv
from medidistill.results.clinical import ClinicalComparison, ClinicalSettings

__all__ = [
    "ClinicalComparison",
    "ClinicalSettings",
    "ProbeData",
    "UndefinedError",
    "age_bands",
    "checklist",
    "clinical_comparison",
    "curves_csv",
    "figures_csv",
    "subgroup_table",
    "subgroups_csv",
]
