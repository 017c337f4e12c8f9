"""The report of a run: one self-contained HTML page with the table, the pictures and what they mean."""

from __future__ import annotations

from medidistill.report.data import ExplainedCase, Explanations, ExternalResults, ReportData
from medidistill.report.figures_saliency import saliency
from medidistill.report.page import render
from medidistill.report.summary import summary_pdf
from medidistill.report.wording import confounded_sites

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
