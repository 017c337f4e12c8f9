from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from medidistill.config import DistillConfig, ExpertConfig, IngestConfig, NetworkConfig, RunConfig
from medidistill.errors import ResourceError
from medidistill.pipeline.planning.memory import Need, available, check, distill_need, experts_need

CPU = torch.device("cpu")
CONFIG = RunConfig(
    ingest=IngestConfig(image_size=32),
    network=NetworkConfig(width=8),
    experts=ExpertConfig(batch_size=10),
    distill=DistillConfig(ipc=4),
)


def distill_bytes(**changes: object) -> float:
    settings = dataclasses.replace(CONFIG.distill, **changes)
    return distill_need(dataclasses.replace(CONFIG, distill=settings), "mtt", 0, 3).bytes


def test_a_need_counts_what_a_hand_counts() -> None:
    # D3 at 32x32, for each image and block: the centred maps and those after the ReLU; pooled maps go to the next block
    maps = 8 * 4 * (2 * (32**2 + 16**2 + 8**2) + 16**2 + 8**2)
    images = 4 * 32**2
    found = experts_need(CONFIG, 0, 3).parts["a smaller experts.batch_size or network.width"] / (4 * 10)
    assert 0.8 * (maps + images) < found < 1.3 * (maps + images)
    parameters = sum(8 * 9 * inputs + 16 for inputs in (1, 8, 8)) + 3 * 8 * 16 + 3
    snapshots = experts_need(CONFIG, 0, 3).parts["fewer experts.epochs"]
    assert snapshots == 4 * parameters * (CONFIG.experts.epochs + 5)
    assert experts_need(CONFIG, 100, 3).bytes - experts_need(CONFIG, 0, 3).bytes == 2 * 100 * images
    assert experts_need(CONFIG, 5, 3).bytes < 0.7 * experts_need(CONFIG, 10, 3).bytes  # a batch is no larger than that


def test_memory_grows_with_j_for_the_stored_graph_alone() -> None:
    assert distill_bytes(inner_steps=40, gradient="stored") > 3 * distill_bytes(inner_steps=10, gradient="stored")
    assert distill_bytes(inner_steps=40) < 1.3 * distill_bytes(inner_steps=10)
    assert distill_bytes(ipc=8) > 1.7 * distill_bytes()
    assert distill_bytes(ipc=8, batch_size=12) < 1.2 * distill_bytes()


def test_what_does_not_fit_is_refused_with_figures_and_the_setting_that_helps_most(monkeypatch) -> None:
    free = available(CPU)
    assert free is not None
    check(Need("experts", {"less": free / 4}), CPU)
    with pytest.raises(
        ResourceError, match=r"experts: needs about \d+\.\d GB of memory, \d+\.\d GB free; try this, or"
    ):
        check(Need("experts", {"that": free / 2, "this": free}), CPU)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    with pytest.raises(ResourceError, match="in 8 processes"):
        check(Need("experts", {"less": free / 4}), CPU)


def test_a_limit_on_the_process_counts() -> None:
    script = (
        "import os, resource, torch\n"
        "from medidistill.pipeline.planning.memory import available\n"
        "held = int(open('/proc/self/statm').read().split()[0]) * os.sysconf('SC_PAGE_SIZE')\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 2**28, resource.RLIM_INFINITY))\n"
        "print(available(torch.device('cpu')))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert 2**27 < float(done.stdout) <= 2**28


_PEAK = """
import json, sys, tempfile, torch
from pathlib import Path
from tests.support.peak_memory import Peak
from medidistill.config import DistillConfig, ExpertConfig, IngestConfig, NetworkConfig, RunConfig, TrainingConfig
from medidistill.distillation import DistillProblem, distill, train_experts
from medidistill.distilled_set import Normalisation
from medidistill.networks import raise_malloc_thresholds
from medidistill.pipeline.planning.memory import distill_need, experts_need

kind, folder = sys.argv[1:]
raise_malloc_thresholds()
torch.set_num_threads(1)
pool = ExpertConfig(count=1, epochs=3, batch_size=60 if kind == "experts" else 4)
rules = DistillConfig(
    ipc=15, outer_steps=2, inner_steps=3, max_start=1, gradient=kind if kind != "experts" else "adjoint", compile="off"
)
config = RunConfig(ingest=IngestConfig(image_size=64), network=NetworkConfig(width=32), experts=pool, distill=rules)
images, labels = torch.randn(60, 1, 64, 64), torch.arange(60) % 3
if kind == "experts":
    need = experts_need(config, 0, 3)
    peak = Peak(torch.device("cpu"))
else:
    need = distill_need(config, "mtt", 0, 3)
files = train_experts(
    images, labels, num_classes=3, network=config.network, config=pool, seed=0, folder=Path(folder), compile="off"
)
if kind != "experts":
    peak = Peak(torch.device("cpu"))
    rules = config.distill_by("mtt")
    distill(DistillProblem(files, "abc", Normalisation(), TrainingConfig(steps=1), seed=0), rules)
print(json.dumps([need.bytes, peak.bytes()]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["experts", "adjoint", "stored"])
def test_the_estimate_is_near_the_measured_peak(kind: str, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, kind, str(tmp_path)], check=True, capture_output=True, text=True
    )
    needed, measured = json.loads(done.stdout.splitlines()[-1])
    assert 0.6 < needed / measured < 2.5, (needed / 1e6, measured / 1e6)
