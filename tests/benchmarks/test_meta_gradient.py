from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_smoke_run_times_all_kinds_and_they_agree(tmp_path):
    out = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks.meta_gradient", "--scale", "smoke", "--threads", "1", "--repeats", "2"]
    root = Path(__file__).parents[2]
    subprocess.run([*command, "--output", str(out)], check=True, cwd=root, timeout=280)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["reference_steps"] == row["steps"]
    for name in ("images", "alpha", "end"):
        assert row["time"]["off"]["adjoint"][name]["relative"] < 1e-4
        assert row["time"]["off"]["stored"][name]["relative"] < 1e-4
        assert row["time"]["off"]["adjoint_bfloat16"][name]["cosine"] > 0.999
    assert all(ratio > 0 for ratio in row["time_ratio"].values())
    assert row["peak_bytes"]["stored"] > 0
