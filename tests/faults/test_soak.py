"""Twelve runs in one process: memory, file handles and temporary files stay where they were."""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path

import pytest

import medidistill
from medidistill.pipeline import load_config

from .workplace import note

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
RUNS = 12
WARM = 4  # runs until caches of the libraries are full
GROWTH = 24.0  # MiB that the last runs may add to the first warm one


def _resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_twelve_runs_in_one_process(workplace, tmp_path):
    config = load_config(workplace.config)
    memory, handles, files = [], [], []
    for number in range(RUNS):
        medidistill.run(config, workplace.pictures, tmp_path / f"out-{number}", progress=False)
        gc.collect()
        memory.append(_resident())
        handles.append(len(list(Path("/proc/self/fd").iterdir())))
        files.append(len(list(Path(tempfile.gettempdir()).iterdir())))
        workplace.check(tmp_path / f"out-{number}")
    assert max(memory[WARM:]) - memory[WARM] < GROWTH, memory
    assert len(set(handles[WARM:])) == 1, handles
    assert files[-1] <= files[0], files
    note("soak", {"runs": RUNS, "MiB after the first": round(memory[0]), "MiB after the last": round(memory[-1])})
