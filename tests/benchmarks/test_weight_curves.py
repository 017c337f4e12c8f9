"""Learning curves: what is scored, and at which wall time."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.weight_curves import curve, table
from medidistill.config import RunConfig
from medidistill.distillation import DistillResult, DistillStatus
from medidistill.distilled_set import DistilledSet, LabelledImages, Normalisation
from medidistill.pipeline.prepared import PreparedData


def test_scores_stand_at_the_wall_time_and_the_mean_loss_of_their_steps() -> None:
    config = RunConfig()
    few = dataclasses.replace(config.evaluate.adaptive, steps=2)
    config = dataclasses.replace(config, evaluate=dataclasses.replace(config.evaluate, adaptive=few, num_networks=1))
    images = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6) % 3
    part = LabelledImages(images, labels, ("a", "b", "c"), tuple("123456"))
    data = PreparedData(part, part, part, Normalisation(), "made up")
    made = DistilledSet(images[:3], labels[:3], 0.1, part.class_names, Normalisation(), config.network, few)
    history = [{"step": step, "seconds": 0.5, "loss": loss} for step, loss in enumerate((4.0, 3.0, 2.0, 1.0), 1)]
    evolution = [(0, images[:3]), (2, images[3:]), (4, images[:3])]
    result = DistillResult(DistillStatus.COMPLETED, made, 4, history, [], evolution)  # type: ignore[arg-type]
    rows = curve(result, config, data, seed=0, compile=False)
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert [row["seconds"] for row in rows] == [0.0, 1.0, 2.0]
    assert [row["loss"] for row in rows] == [None, 3.5, 1.5]
    assert rows[0]["validation"] == pytest.approx(rows[2]["validation"])  # the same images, networks and batches
    shown = table({"curves": [{"ipc": 1, "weighting": "mtt", "curve": rows}]})
    assert "| 1 | mtt | 4 | 2 | 1.500 |" in shown
