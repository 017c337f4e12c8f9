"""What was measured about privacy: the audits that a run or a bundle holds, as they were written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medidistill.files import read_json
from medidistill.jsontypes import ReadOnlyJsonObject  # any results, shown as a table

__all__ = ["Audit", "officer_report", "read_audits"]


@dataclass(frozen=True)
class Audit:
    """One file of results.

    Args:
        name: of the file, without its ending.
        values: what it says.
    """

    name: str
    values: ReadOnlyJsonObject

    def table(self) -> pd.DataFrame:
        """Return every figure and verdict of it: dotted name, value."""
        return pd.DataFrame(list(_flat(self.values)), columns=["what", "value"])


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        if all(isinstance(value.get(side), int | float) for side in ("estimate", "low", "high")):
            return [(name, f"{value['estimate']:.3f} [{value['low']:.3f}, {value['high']:.3f}]")]
        return [row for key, one in value.items() for row in _flat(one, f"{name}.{key}".strip("."))]
    if isinstance(value, list):
        if all(not isinstance(one, Mapping | list) for one in value):
            return [(name, ", ".join(map(str, value[:20])))]
        return [row for place, one in enumerate(value) for row in _flat(one, f"{name}.{place}")]
    return [(name, f"{value:.4g}" if isinstance(value, float) else str(value))]


def officer_report(folder: Path) -> str:
    """Return the audit in the words of a data-protection officer, as Markdown; empty where there is none."""
    file = folder / "privacy-report.md"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def read_audits(folder: Path) -> list[Audit]:
    """Return the audits in a folder, by name; none where nothing was audited. Raises `IngestError`."""
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    found = [Audit(file.stem, read_json(file)) for file in files]
    return [audit for audit in found if isinstance(audit.values, Mapping)]
