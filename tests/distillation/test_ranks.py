"""Real torchrun processes with gloo: more of them change nothing but the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medidistill.config import ExpertConfig, NetworkConfig
from medidistill.distillation import Ranks, train_experts
from medidistill.errors import ConfigError
from medidistill.seeding import stream

PROGRAM = Path(__file__).with_name("rank_program.py")


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = torch.arange(24) % 3
    images = torch.randn(24, 1, 16, 16, generator=stream(0, "d")) + labels.view(-1, 1, 1, 1)
    folder = tmp_path_factory.mktemp("experts")
    config = ExpertConfig(count=2, epochs=4, batch_size=8, lr=0.05)
    train_experts(
        images, labels, num_classes=3, network=NetworkConfig(width=4, depth=2), config=config, seed=0, folder=folder
    )
    return folder


def launch(processes: int, *arguments: object, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [f"--max-restarts={restarts}", str(PROGRAM), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def alone(experts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.distillation.rank_program import work

    out = tmp_path_factory.mktemp("alone")
    work(experts, out, 2)
    return out


def steps(folder: Path) -> list[dict[str, object]]:
    entries = json.loads((folder / "history.json").read_text())["entries"]
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in entries]


@pytest.mark.slow
def test_two_ranks_with_a_segment_each_make_the_bytes_of_one_process_with_two(experts, alone, tmp_path):
    done = launch(2, experts, tmp_path, 2)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "distilled.safetensors").read_bytes() == (alone / "distilled.safetensors").read_bytes()
    assert steps(tmp_path) == steps(alone)


@pytest.mark.slow
def test_a_killed_rank_is_restarted_and_the_run_ends_with_the_same_bytes(experts, alone, tmp_path):
    done = launch(2, experts, tmp_path, 2, 5, restarts=1)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "exitcode: -9" in done.stderr  # it did die
    assert (tmp_path / "distilled.safetensors").read_bytes() == (alone / "distilled.safetensors").read_bytes()
    assert steps(tmp_path) == steps(alone)


def test_segments_that_cannot_be_dealt_out_evenly_are_refused():
    assert list(Ranks(1, 2).share(4)) == [1, 3]
    with pytest.raises(ConfigError, match="segments=3 on 2 ranks: must be a multiple"):
        Ranks(0, 2).share(3)
