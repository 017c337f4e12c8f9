"""Sets of a final comparison on other architectures: what is trained, and the table."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from benchmarks import architectures, weight_architectures
from benchmarks.architectures import ARCHITECTURES, keep_predictions
from benchmarks.weight_architectures import PACKED, cells, table
from benchmarks.weight_final import COMPARISONS
from benchmarks.weight_trial import Cell
from medidistill.config import ExpertConfig, RunConfig
from medidistill.distillation import train_experts
from medidistill.distilled_set import DistilledSet, LabelledImages, Normalisation
from medidistill.errors import ConfigError
from medidistill.evaluate import Arm
from medidistill.pipeline.prepared import PreparedData

PACKED_CELL = Cell(0, 1, PACKED, 200)


def data_of(count: int = 12) -> PreparedData:
    generator = torch.Generator().manual_seed(0)
    names = tuple(map(str, range(count)))
    images = torch.rand(count, 1, 32, 32, generator=generator)
    part = LabelledImages(images, torch.arange(count) % 3, ("a", "b", "c"), names)
    return PreparedData(part, part, part, Normalisation(), "made up")


def test_only_sets_that_the_comparison_makes_are_asked_for() -> None:
    made = {cell.name for cell in COMPARISONS["plateau"].cells()}
    wanted = {cell.name for cell in cells() if cell.weighting != PACKED}
    assert wanted <= made


def test_packed_images_are_sixteen_for_one(tmp_path: Path) -> None:
    config, data = RunConfig(), data_of(60)
    train_experts(
        *data.training_tensors(),
        num_classes=3,
        network=config.network,
        config=ExpertConfig(count=1, epochs=1),
        seed=0,
        folder=tmp_path / "pool-0",
    )
    arm = weight_architectures.arm_of(PACKED_CELL, config, data, tmp_path)
    assert len(arm.images) == 3 * 16
    assert arm.labels.shape == (48, 3)
    assert arm.candidates[0].lr == weight_architectures.RATE


def test_the_fall_is_from_the_convnet_to_the_mean_of_the_others() -> None:
    found = [
        {"ipc": 1, "weighting": arm, "architecture": name, "test": base + (0.2 if name == "convnet" else 0.1 * run)}
        for arm, base in (("mtt", 0.4), (PACKED, 0.5))
        for name in ARCHITECTURES
        for run in range(2)
    ]
    table_rows = architectures.rows([{**one, "arm": one["weighting"]} for one in found], ["mtt", PACKED])
    made = {row["arm"]: row for row in table_rows}
    assert made["mtt"]["others"] == pytest.approx(0.45)
    assert made["mtt"]["fall"] == pytest.approx(0.15)
    assert made["mtt"]["runs"] == 2
    assert "| 1 | w = 1 | 2 | 0.600 | 0.450 | 0.450 | 0.450 | 0.450 | 0.450 | 0.450 | 0.150 |" in table(
        {"rows": table_rows}
    )


def test_a_network_is_trained_once_and_test_stays_closed_while_one_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, data = RunConfig(), data_of()
    few = dataclasses.replace(config.evaluate.adaptive, steps=2)
    config = dataclasses.replace(config, evaluate=dataclasses.replace(config.evaluate, adaptive=few))
    cell = Cell(0, 1, "mtt", 200)
    what = data.train.images[:3], torch.arange(3), 0.1, ("a", "b", "c"), Normalisation()
    made = DistilledSet(*what, config.network, few.plain_training())
    made.save(tmp_path / "sets" / f"{cell.name}.safetensors")
    monkeypatch.setattr(weight_architectures, "cells", lambda: [cell])
    for module in (architectures, weight_architectures):
        monkeypatch.setattr(module, "ARCHITECTURES", ("convnet", "alexnet"))
    file = weight_architectures.predictions(tmp_path, cell, "convnet")

    def arm() -> Arm:
        return weight_architectures.arm_of(cell, config, data, tmp_path)

    keep_predictions(file, arm, "convnet", config, data, cell.seed)
    stamp = file.stat().st_mtime_ns
    keep_predictions(file, arm, "convnet", config, data, cell.seed)
    assert file.stat().st_mtime_ns == stamp
    with pytest.raises(ConfigError, match=r"alexnet.*missing; run all of them before the test split is opened"):
        weight_architectures.opened(config, data, tmp_path)
    keep_predictions(
        weight_architectures.predictions(tmp_path, cell, "alexnet"), arm, "alexnet", config, data, cell.seed
    )
    result = weight_architectures.opened(config, data, tmp_path)
    assert [row["arm"] for row in result["rows"]] == ["mtt"]
