"""Twelve runs one after another: memory, file handles and temporary files stay where they were."""

from __future__ import annotations

import gc
import os
import tempfile
import time
from pathlib import Path

import pytest

import medidistill
from medidistill.pipeline import app_file, load_config

from .workplace import note

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
RUNS = 12
WARM = 4  # runs until caches of the libraries are full
GROWTH = 24.0  # MiB that the last runs may add to the first warm one


class Meter:
    """What this process holds, taken after each run."""

    def __init__(self) -> None:
        self.memory: list[float] = []
        self.handles: list[int] = []
        self.files: list[int] = []

    def read(self) -> None:
        gc.collect()
        with open("/proc/self/statm") as file:
            self.memory.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
        self.handles.append(len(list(Path("/proc/self/fd").iterdir())))
        self.files.append(len(list(Path(tempfile.gettempdir()).iterdir())))

    def check(self, what: str) -> None:
        assert max(self.memory[WARM:]) - self.memory[WARM] < GROWTH, self.memory
        assert len(set(self.handles[WARM:])) == 1, self.handles
        assert self.files[-1] <= self.files[0], self.files
        note(
            f"soak, {what}",
            {
                "runs": len(self.memory),
                "MiB after run 1": round(self.memory[0]),
                f"MiB after run {WARM + 1}": round(self.memory[WARM]),
                f"MiB after run {RUNS}": round(self.memory[-1]),
                f"handles after run {WARM + 1}": self.handles[WARM],
                f"handles after run {RUNS}": self.handles[-1],
                "temporary files after run 1": self.files[0],
                f"temporary files after run {RUNS}": self.files[-1],
            },
        )


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder of temporary files that nobody else writes into."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_twelve_runs_in_one_process(workplace, tmp_path, temporary):
    config, meter = load_config(workplace.config), Meter()
    for number in range(RUNS):
        medidistill.run(config, workplace.pictures, tmp_path / f"out-{number}", progress=False)
        meter.read()
        workplace.check(tmp_path / f"out-{number}")
    meter.check("one process")


def test_twelve_runs_that_the_app_starts(workplace, tmp_path, temporary, monkeypatch):
    monkeypatch.syspath_prepend(str(app_file().parent))
    from view_models import runs
    from view_models.places import Places

    root, meter = tmp_path / "runs", Meter()
    root.mkdir()
    places = Places(root, (workplace.pictures,))
    for number in range(RUNS):
        path = runs.start_run(places, f"run {number}", str(workplace.config), workplace.pictures)
        while (state := runs.run_state(places, path)).state not in ("completed", "failed", "stopped"):
            time.sleep(0.2)
        assert state.state == "completed", state
        meter.read()
        workplace.check(path)
    # each run was a process of its own; none of them is still there
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    alive = [child for child in children if "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]]
    assert not alive
    assert len(children) <= 1, children
    assert len(runs.find_runs(places)) == RUNS
    meter.check("runs that the app starts")
