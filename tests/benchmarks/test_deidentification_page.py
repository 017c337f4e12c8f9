"""The page of the de-identification benchmark shows the tables of its result."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.deidentification import PAGE, RESULT, tables
from tests.support.planted import KINDS


def test_the_page_shows_the_committed_figures(root: Path) -> None:
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    assert tables(result) in PAGE.read_text(encoding="utf-8")
    assert {row["leaks_in_output"] for row in result["places"].values()} == {0}
    assert set(result["places"]) == set(KINDS)
