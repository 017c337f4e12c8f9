"""The plain script that a whole run is compared with computes what the package computes, and steps are counted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.plain import (
    PlainConvNet,
    decoded,
    kernel_step,
    snapshot_step,
    training_step,
    trajectory_step,
)
from benchmarks.whole_run import reading_seconds, stage_seconds, step_counts
from medidistill.config import NetworkConfig, RunConfig, TrainingConfig
from medidistill.evaluate import ArmRun
from medidistill.networks import make_network
from medidistill.packed_images import PackedImages
from medidistill.pipeline import load_config
from medidistill.seeding import stream


def test_the_plain_network_has_the_package_s_weights_and_logits() -> None:
    ours = make_network(
        NetworkConfig(width=4, depth=2), channels=1, image_size=16, num_classes=3, generator=stream(0, "weights")
    )
    plain = PlainConvNet(16, 4, 2, 3)
    own = [value for name, value in ours.named_parameters() if not name.endswith("bias") or value.ndim != 4]
    shapes = [tuple(value.shape) for value in plain.parameters()]
    if len(own) != len(shapes):  # a convolution before a norm needs no bias
        own = [value for value in own if tuple(value.shape) in shapes]
    with torch.no_grad():
        for there, here in zip(plain.parameters(), own, strict=True):
            there.copy_(here)
    images = torch.randn(5, 1, 16, 16, generator=stream(0, "images"))
    torch.testing.assert_close(plain(images), ours(images), rtol=1e-4, atol=1e-4)


def test_tiles_are_cut_and_enlarged_as_the_package_does() -> None:
    stored = torch.randn(2, 1, 16, 16, generator=stream(0, "stored"))
    tiles = stored.reshape(2, 4, 4, 4, 4).permute(0, 1, 3, 2, 4).reshape(32, 1, 4, 4)
    torch.testing.assert_close(decoded(stored, 4), PackedImages(tiles, 16).decode(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [snapshot_step, kernel_step, trajectory_step])
def test_each_kind_of_step_changes_the_set(make: object) -> None:
    torch.manual_seed(0)
    step = make(16, 4, 2, ipc=1, tiles=2)  # type: ignore[operator]
    stored = next(cell.cell_contents for cell in step.__closure__ if _is_set(cell.cell_contents))
    before = stored.detach().clone()
    step()
    assert stored.shape == (3, 1, 16, 16)
    assert not torch.equal(stored, before)


def _is_set(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 4 and value.requires_grad


def test_networks_learn_by_both_rules() -> None:
    for adaptive in (True, False):
        step = training_step(16, 4, 2, 8, adaptive=adaptive)
        model = next(
            cell.cell_contents for cell in step.__closure__ or () if isinstance(cell.cell_contents, PlainConvNet)
        )
        before = model.classifier.weight.detach().clone()
        step()
        assert not torch.equal(model.classifier.weight, before)


def test_a_stage_lasts_from_the_end_of_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    lines = [
        {"event": "run_started", "time": "2026-01-01T00:00:00+00:00"},
        {"event": "stage_started", "stage": "ingest", "time": "2026-01-01T00:00:04+00:00"},
        {"event": "stage_finished", "stage": "ingest", "time": "2026-01-01T00:00:10+00:00"},
        {"event": "stage_finished", "stage": "experts", "time": "2026-01-01T00:01:10+00:00"},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert stage_seconds(file) == {"ingest": 10.0, "experts": 60.0}


def _cell(arm: str, options: int, chosen: TrainingConfig) -> ArmRun:
    return ArmRun(arm, "convnet", 0, chosen, 30, 3, (0.5,) * 5, (0.5,) * options)


def test_steps_are_counted_as_the_preset_takes_them() -> None:
    config: RunConfig = load_config("covid-cxr")
    adaptive = dataclasses.replace(config.evaluate.adaptive.plain_training())
    small = config.evaluate.small_set_training
    cells = {"packed": _cell("packed", 6, adaptive), "random": _cell("random", 7, small)}
    counts = step_counts(config, 650, cells)
    assert counts["expert step"] == 10 * 16 * 11 * (1 + 1 / 4)
    assert counts["trajectory step"] == 120 + 120
    assert counts["snapshot step"] == 150 + 400 / 4
    assert counts["kernel step"] == 50 + 500 / 4
    # packed: 6 ways with two networks and five that count; random: 4 small and 3 adaptive ways, five small that count
    assert counts["network step, batch 64"] == 400 * (12 + 5 + 6)
    assert counts["network step, batch 16"] == 100 * (8 + 5)


def test_files_are_read_and_counted(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text("")
    count, seconds = reading_seconds(tmp_path, 8)
    assert count == 3
    assert seconds > 0
