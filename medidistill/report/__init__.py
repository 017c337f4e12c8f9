"""The report of a run: one self-contained HTML page with the table, the pictures and what they mean."""

from __future__ import annotations

from medidistill.extras import require_extra

require_extra("report")

from medidistill.report.data import ExplainedCase, Explanations, ExternalResults, ReportData  # noqa: E402
from medidistill.report.figures_saliency import saliency  # noqa: E402
from medidistill.report.page import render  # noqa: E402
from medidistill.report.summary import summary_pdf  # noqa: E402
from medidistill.report.wording import confounded_sites  # noqa: E402

__all__ = [
    "ExplainedCase",
    "Explanations",
    "ExternalResults",
    "ReportData",
    "confounded_sites",
    "render",
    "saliency",
    "summary_pdf",
]
