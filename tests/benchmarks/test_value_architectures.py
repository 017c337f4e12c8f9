"""Packed sets on other architectures: which arms are taken from which folders, and what they are trained on."""

from __future__ import annotations

import shutil

import pytest
import torch

from benchmarks import value, value_architectures
from benchmarks.architectures import RATE
from medidistill.cli import main
from medidistill.pipeline import load_config
from medidistill.pipeline.prepared import PreparedData

from .test_value import TINY

ARMS = ("packed", "gaussian")


@pytest.mark.slow
def test_arms_are_those_of_the_comparison(tmp_path):
    phantoms, work = tmp_path / "phantoms", tmp_path / "work"
    assert main(["phantom", str(phantoms), "--patients-per-class", "8", "--size", "64", "--quiet"]) == 0
    settings = [*TINY, "evaluate.arms=[full,packed,gaussian]", "methods.gaussian.group_patients=2"]
    for ipc in (1, 2):
        value.run_cell(value.Cell(16, ipc, 0), value.Source(phantoms), work, settings)
    found = list(value_architectures.tasks([work], (*ARMS, "mixture"), ipc=2))
    assert [(task.cell.ipc, task.arm) for task in found] == [(2, "packed"), (2, "gaussian")]

    [again, moved] = value_architectures.tasks([work, _copied_without(work, "packed", tmp_path / "more")], ARMS, ipc=2)
    assert again.folder.path.parent == work
    assert moved.folder.path.parent == tmp_path / "more"

    for task in found:
        data = PreparedData.read(task.folder.ingest)
        arm = value_architectures.arm_of(task, load_config(task.folder.config_file), data)
        kept = value_architectures.kept_run(task)
        assert len(arm.images) == kept.training_images
        assert arm.labels.is_floating_point() == (task.arm == "gaussian" or "labels" in kept.info)
        assert [training.lr for training in arm.candidates] == [RATE]
        assert torch.isfinite(arm.images).all()


def _copied_without(work, arm, target):
    shutil.copytree(work, target)
    for cell in target.glob(f"*/evaluate/cells/{arm}-convnet.safetensors"):
        cell.unlink()
    return target
