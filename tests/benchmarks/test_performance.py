"""A small run of each timing benchmark: it works, and what it compares is the same work. Nothing here looks at time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.end_to_end import first_at
from benchmarks.performance_page import page

ROOT = Path(__file__).parents[2]


def smoke(name: str, out: Path, threads: int = 1) -> dict[str, Any]:
    given = ["--scale", "smoke", "--device", "cpu", "--threads", str(threads), "--rounds", "1"]
    command = [sys.executable, "-m", f"benchmarks.{name}", *given, "--output", str(out)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=280)
    found: dict[str, Any] = json.loads(out.read_text())
    assert found["command"] == " ".join(["python", "-m", f"benchmarks.{name}", *given])
    assert {"cpu", "threads"} <= set(found["hardware"])
    assert "torch" in found["versions"]
    return found


@pytest.mark.slow
def test_all_kinds_train_the_same_experts(tmp_path: Path) -> None:
    (row,) = smoke("experts", tmp_path / "experts.json", threads=2)["rows"]
    assert [kind["kind"] for kind in row["kinds"]] == ["plain", "ours", "stack 2", "processes 2"]
    for kind in row["kinds"][1:]:
        assert kind["deviation"] < 1e-4
        assert kind["experts_a_minute"] > 0


@pytest.mark.slow
def test_a_series_has_a_row_for_each_value(tmp_path: Path) -> None:
    (series,) = smoke("scaling", tmp_path / "scaling.json")["rows"]
    assert (series["field"], [point["value"] for point in series["points"]]) == ("inner_steps", [2, 4])
    assert all(point["step_seconds"] and point["peak_bytes"] > 0 for point in series["points"])


@pytest.mark.slow
def test_both_ends_score_the_same_sets(tmp_path: Path) -> None:
    (row,) = smoke("end_to_end", tmp_path / "end.json")["rows"]
    reference, ours = row["curves"]["reference"], row["curves"]["ours"]
    assert [point["step"] for point in reference] == [point["step"] for point in ours] == [2, 4]
    assert [point["score"] for point in ours] == pytest.approx([point["score"] for point in reference], abs=0.02)
    assert row["reached"]["reference"]["score"] >= row["goal"]


def test_the_goal_is_reached_at_the_first_score_as_good_and_perhaps_never() -> None:
    curve = [{"score": 0.5}, {"score": 0.7}, {"score": 0.6}, {"score": 0.9}]
    assert first_at(curve, 0.6) is curve[1]
    assert first_at(curve, 0.95) is None


def test_the_page_shows_results_and_says_what_has_none(tmp_path: Path) -> None:
    kinds = [
        {"kind": "plain", "experts_a_minute": 10.0, "speedup": 1.0, "cpu_ratio": 1.0},
        {"kind": "ours", "experts_a_minute": 5.0, "speedup": 0.5, "cpu_ratio": 2.0, "deviation": 2e-6},
    ]
    facts = {"hardware": {"cpu": "x", "cores": 2, "accelerator": "none"}, "versions": {"torch": "2"}, "load": 1.0}
    (tmp_path / "experts_cpu.json").write_text(
        json.dumps({"command": "the command", "rows": [{"name": "work", "kinds": kinds}], **facts})
    )
    text = page(tmp_path)
    assert "| work | ours | 5.0 | 0.50 | 2.00 | 2e-06 |" in text  # a loss stays
    assert "`the command`: x, 2 cores" in text
    assert text.count("Not measured yet") == 2
