"""The report of a run: one self-contained HTML page with the table, the pictures and what they mean."""

from __future__ import annotations

from medidistill.report.data import ReportData, RocInput
from medidistill.report.page import render

__all__ = ["ReportData", "RocInput", "render"]
