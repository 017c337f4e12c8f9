from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_smoke_run_measures_both_kinds_in_processes_of_their_own_and_they_agree(tmp_path):
    out = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks.meta_gradient", "--scale", "smoke", "--threads", "1", "--repeats", "1"]
    root = Path(__file__).parents[2]
    subprocess.run([*command, "--output", str(out)], check=True, cwd=root, timeout=280)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["relative_error"]["images"] < 1e-4
    assert row["relative_error"]["alpha"] < 1e-4
    assert row["time_ratio"] > 0
    assert row["stored"]["peak_bytes"] > 0
