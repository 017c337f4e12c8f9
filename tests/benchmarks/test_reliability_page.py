"""The page of the fault campaign says what its counts say, and has a row for each of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import reliability_page as made
from medidistill.files import read_json


def test_the_page_is_made_from_its_counts() -> None:
    found, page = read_json(made.RESULT), made.PAGE.read_text(encoding="utf-8")
    for table in (made.table(made.RUNS, found), made.table(made.UNATTENDED, found), made.soak_table(found)):
        assert table in page
    assert found.keys() - made.NAMES <= {"campaign"}


def test_every_fault_that_a_test_counts_has_a_row(root: Path) -> None:
    files = [*(root / "tests").rglob("test_*.py")]
    counted = {
        name for file in files for name in re.findall(r"\bnote\(\s*\"([^\"]+)\"", file.read_text(encoding="utf-8"))
    }
    assert len(counted) > 20
    assert counted <= made.NAMES


def test_a_fault_that_was_not_counted_says_so() -> None:
    counts = {"kill -9": {"in all": 3, "export": 1, "ingest": 2, "slowest, ms": 1200}}
    table = made.table(made.RUNS, counts)
    assert "| 3 | ingest 2, export 1; slowest 1.2 s |" in table
    assert table.count("not in this campaign") == len(made.RUNS) - 1
    assert made.soak_table({}).count("not in this campaign") == 2


def test_a_report_with_an_unknown_fault_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faults.json").write_text('{"earthquake": {"in all": 1}}')
    monkeypatch.setattr("sys.argv", ["reliability_page", str(tmp_path / "faults.json")])
    before = made.RESULT.read_bytes()
    with pytest.raises(SystemExit, match="no row for earthquake"):
        made.main()
    assert made.RESULT.read_bytes() == before
