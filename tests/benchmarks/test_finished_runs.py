"""Benchmarks that read finished runs: earlier ones stay where that is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import finished_runs
from medidistill.files import read_json


def collect(monkeypatch: pytest.MonkeyPatch, file: Path, *arguments: str) -> list[str]:
    def read(folder: Path) -> dict[str, Any]:
        return {"name": folder.name}

    monkeypatch.setattr("sys.argv", ["collect", *arguments])
    finished_runs.collect("reads", "medidistill run", file, read, lambda result: str(len(result["runs"])))
    return [run["name"] for run in read_json(file)["runs"]]


def test_runs_take_the_place_of_earlier_ones_unless_these_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.json"
    assert collect(monkeypatch, file, "runs/a", "runs/b") == ["a", "b"]
    assert collect(monkeypatch, file, "--keep", "runs/c") == ["a", "b", "c"]
    assert collect(monkeypatch, file, "runs/d") == ["d"]
    assert capsys.readouterr().out.split() == ["2", "3", "1"]
