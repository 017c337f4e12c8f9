"""Cores and memory as the system counts them, and one meaning of `threads`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from medidistill import machine
from medidistill.config import RunConfig
from medidistill.pipeline.stages.audit import audit_processes


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="this system binds no process to cores")
def test_cores_are_those_the_process_is_bound_to() -> None:
    process = psutil.Process()
    before = process.cpu_affinity()
    assert machine.available_cores() == len(before)
    try:
        process.cpu_affinity(before[:1])
        assert machine.available_cores() == 1
    finally:
        process.cpu_affinity(before)


def test_cores_are_those_of_the_machine_where_none_are_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(psutil.Process, "cpu_affinity", raising=False)
    assert machine.available_cores() == psutil.cpu_count()


def test_the_peak_is_in_bytes() -> None:
    resident = psutil.Process().memory_info().rss
    assert 0.9 * resident <= machine.peak_memory() < psutil.virtual_memory().total


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the system has no /proc")
def test_the_peak_is_not_that_of_the_process_that_started_this_one() -> None:
    held = bytearray(400 * 2**20)
    held[:: 2**10] = b"x" * len(held[:: 2**10])
    program = "from medidistill.machine import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert int(done.stdout) < len(held) / 2 < machine.peak_memory()


@pytest.mark.parametrize(("platform", "factor"), [("linux", 1024), ("darwin", 1)])
def test_the_unit_of_the_peak_is_that_of_the_system(
    monkeypatch: pytest.MonkeyPatch, platform: str, factor: int
) -> None:
    monkeypatch.setattr(machine.sys, "platform", platform)
    monkeypatch.setattr(machine, "_STATUS", Path("/no/such/file"))
    highest = machine.resource.getrusage(machine.resource.RUSAGE_SELF).ru_maxrss
    assert machine.peak_memory() >= factor * highest
    assert machine.peak_memory() < 2 * factor * highest


@pytest.mark.parametrize(
    ("threads", "workers", "expected"), [(0, 0, machine.available_cores()), (3, 0, 3), (3, 5, 5), (0, 5, 5)]
)
def test_threads_bound_the_processes_of_an_audit(threads: int, workers: int, expected: int) -> None:
    assert audit_processes(RunConfig(threads=threads), workers) == expected
