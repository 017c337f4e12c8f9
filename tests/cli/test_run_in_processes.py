"""A run whose networks are trained in processes of one thread makes what a run with one thread makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from medidistill.cli import main
from medidistill.evaluate import ArmRun
from medidistill.networks import Workers, workers
from medidistill.networks.schedule import OpenBatch
from medidistill.pipeline import work

from .conftest import Tiny


def _tensors(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.glob(pattern))}


@pytest.mark.slow
def test_experts_and_networks_are_those_of_one_thread(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_MIN_WORK_FOR_PROCESSES", 0.0)
    jobs: list[str] = []
    packed = workers._packed

    def counted(batch: OpenBatch) -> bytes | None:
        jobs.append(type(batch.asked.job).__module__.rpartition(".")[2])
        return packed(batch)

    monkeypatch.setattr(workers, "_packed", counted)
    output = tmp_path / "run"
    few = ["--set", "threads=2", "--set", "evaluate.arms=[full,random,iadd]", "--until", "evaluate"]
    assert main([*tiny.arguments(output, *few), "--quiet"]) == 0
    assert {"experts", "protocol"} <= set(jobs)
    experts = _tensors(output, "experts/*.safetensors")
    assert len(experts) == 2
    assert experts == _tensors(tiny.finished, "experts/*.safetensors")
    for arm in ("full", "random"):
        cells = [
            ArmRun.load(next(folder.glob(f"evaluate/cells/{arm}-*.safetensors"))) for folder in (output, tiny.finished)
        ]
        assert cells[0].val_balanced_accuracy == cells[1].val_balanced_accuracy
        assert cells[0].candidate_scores == cells[1].candidate_scores
        assert cells[0].test_probabilities is not None
        assert cells[1].test_probabilities is not None
        assert cells[0].test_probabilities.tobytes() == cells[1].test_probabilities.tobytes()


def test_a_run_with_one_thread_stays_in_one_process(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_MIN_WORK_FOR_PROCESSES", 0.0)

    def refused(self: Workers) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(Workers, "_start", refused)
    until = ["--until", "experts", "--set", "threads=1"]
    assert main([*tiny.arguments(tmp_path / "run", *until), "--quiet"]) == 0
