"""The final comparison of weightings: pairs, the opening of the test split, and the wall time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import weight_final
from benchmarks.weight_final import COMPARISONS
from benchmarks.weight_trial import Cell
from medidistill.config import RunConfig, TrainingConfig
from medidistill.distilled_set import LabelledImages, Normalisation
from medidistill.errors import ConfigError
from medidistill.evaluate import ArmRun
from medidistill.files import write_json
from medidistill.pipeline.prepared import PreparedData


def made(weighting: str, score: float, seed: int, ipc: int = 1) -> dict[str, Any]:
    return {"pool": 0, "ipc": ipc, "weighting": weighting, "seed": seed, "test": score}


def test_differences_are_from_equal_weights_and_from_the_control() -> None:
    cells = [made("mtt", 0.5 + seed / 10, seed) for seed in range(3)]
    cells += [made("shuffled", 0.45 + seed / 10, seed) for seed in range(3)]
    cells += [made("hypergradient", 0.55 + seed / 10 + noise, seed) for seed, noise in enumerate((0.01, 0.0, -0.01))]
    found = {row["weighting"]: row for row in weight_final.rows(cells, "test")}
    assert found["hypergradient"]["minus_base"]["estimate"] == pytest.approx(0.05)
    assert found["hypergradient"]["minus_control"]["estimate"] == pytest.approx(0.1)
    # three differences of sd 0.01: t(2) = 4.30265 gives 0.024841
    assert found["hypergradient"]["minus_base"]["low"] == pytest.approx(0.05 - 0.024841, abs=1e-5)
    assert found["mtt"]["minus_base"] is None
    assert "adjusted" not in found["shuffled"]  # a control is no claim
    assert found["hypergradient"]["adjusted"] == pytest.approx(found["hypergradient"]["minus_base"]["p"])
    result = {"test": list(found.values()), "validation": list(found.values()), "steps": {"1": dict.fromkeys(found, 7)}}
    assert "| 1 | hypergradient | 7 | 3 | 0.650 | 0.650 | +0.050 [+0.025, +0.075] |" in weight_final.table(result)


def test_the_test_split_stays_closed_while_a_set_is_missing(tmp_path: Path) -> None:
    write_json(tmp_path / "steps.json", {"1": {"mtt": 10}})
    cells = [Cell(0, 1, "mtt", 100), Cell(0, 1, "mtt", 101)]
    write_json(tmp_path / "cells" / f"{cells[1].name}.json", dataclasses.asdict(cells[1]) | {"status": "diverged"})
    part = LabelledImages(torch.zeros(3, 1, 16, 16), torch.arange(3), ("a", "b", "c"), ("1", "2", "3"))
    data = PreparedData(part, part, part, Normalisation(), "made up")
    with pytest.raises(ConfigError, match="missing; run all cells before the test split is opened"):
        weight_final.opened(RunConfig(), data, tmp_path, "budget", cells)
    found = weight_final.opened(RunConfig(), data, tmp_path, "budget", cells[1:])
    assert found["cells"][0]["test"] == pytest.approx(1 / 3)  # a set that diverged counts as chance


def test_predictions_are_kept_and_compared_with_the_labels_later(tmp_path: Path) -> None:
    cell = Cell(0, 1, "mtt", 100)
    right = np.eye(3, dtype=np.float32)[None]
    half = np.concatenate([right, right[:, ::-1]])  # one network right, one right about the class in the middle
    run = ArmRun("set", "convnet", 0, TrainingConfig(), 3, 3, (0.5, 0.7), test_probabilities=half)
    run.save(tmp_path / "predictions" / f"{cell.name}.safetensors")
    found = weight_final.scored(np.arange(3), tmp_path / "predictions" / f"{cell.name}.safetensors")
    assert found == {"validation": pytest.approx(0.6), "test": pytest.approx((1 + 1 / 3) / 2)}


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_pair_is_whole(name: str) -> None:
    comparison = COMPARISONS[name]
    cells = comparison.cells()
    assert len({cell.name for cell in cells}) == len(cells)
    for ipc, (first, last) in comparison.seeds.items():
        mine = [cell for cell in cells if cell.ipc == ipc]
        assert len(mine) == 2 * (last - first + 1) * len(comparison.arms[ipc])
        assert {cell.weighting for cell in mine} == set(comparison.arms[ipc])
        assert weight_final.BASE in comparison.arms[ipc]


def test_no_two_comparisons_share_a_pool_of_experts() -> None:
    assert len({comparison.pool_seed for comparison in COMPARISONS.values()}) == len(COMPARISONS)
