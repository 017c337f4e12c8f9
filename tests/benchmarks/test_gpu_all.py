"""The GPU's benchmark, rehearsed: parts at tiny sizes on the CPU, and that each leaves what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu.gradients import cuda_graph, meta_gradient
from benchmarks.gpu.networks import snapshots
from benchmarks.gpu.scale import SCALES
from benchmarks.gpu_all import PARTS, _last, measure_all

CPU, TINY = torch.device("cpu"), SCALES["tiny"]
ROOT = Path(__file__).parents[2]


def test_a_part_that_fails_or_comes_too_late_leaves_the_others_what_they_found(tmp_path: Path) -> None:
    out, limits = tmp_path / "all.json", {}

    def measure(part: str, scale: str, device: str, data: str, limit: float) -> dict[str, Any]:
        limits[part] = limit
        if part != "meta_gradient":
            assert "meta_gradient" in json.loads(out.read_text())["parts"]  # written after each part
        return {"error": "RuntimeError: no"} if part == "snapshots" else {"seconds": 1.0}

    found = measure_all(list(PARTS), "tiny", "cpu", "", 100, out, measure)
    assert json.loads(out.read_text()) == found
    assert list(found["parts"]) == list(PARTS)
    assert found["parts"]["snapshots"] == {"error": "RuntimeError: no"}
    assert found["parts"]["core_run"] == {"seconds": 1.0}
    assert limits["meta_gradient"] == 40
    late = measure_all(list(PARTS), "tiny", "cpu", "", 1, out, measure)
    assert {one["error"] for one in late["parts"].values()} == {"not begun: the budget is spent"}


def test_what_a_part_said_last_in_full_is_kept() -> None:
    assert _last('noise\n{"a": 1}\n{"a": 2}\n{"a": 3, "b') == {"a": 2}
    assert _last("noise") == {}


def test_the_kinds_compute_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    for row in meta_gradient(TINY, CPU, "")["rows"]:
        assert row["kinds"]["eager"]["off"] < 1e-4
        assert set(row["time_ratio"]) == {"stored", "eager"}
    for kind in snapshots(TINY, CPU, "")["kinds"].values():
        assert kind["off"] < 1e-4
    assert "skipped" in cuda_graph(TINY, CPU, "")
    assert _last(capsys.readouterr().out)["kinds"].keys() == {"plain", "eager"}


def test_it_needs_no_package_that_a_gpu_node_may_lack() -> None:
    lacking = ["monai", "pydicom", "streamlit", "pydantic", "scipy", "pandas", "sklearn", "matplotlib", "PIL"]
    program = f"import sys\nsys.modules.update(dict.fromkeys({lacking!r}))\nimport benchmarks.gpu_all"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
