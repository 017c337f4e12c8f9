"""The trial of weightings: pairs, corrections, and cells that go on where they were."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import weight_agreement, weight_trial
from benchmarks.weight_trial import DONOR_SEED, FROZEN, Cell, Trial, cells, differences, table
from benchmarks.weightings import FAMILIES
from medidistill.config import DistillConfig, with_settings
from medidistill.distillation import DistillProblem, DistillResult, distill
from medidistill.distilled_set import DistilledSet, LabelledImages, Normalisation
from medidistill.pipeline import load_config
from medidistill.pipeline.prepared import PreparedData
from medidistill.seeding import stream


def made(weighting: str, score: float | None, seed: int, pool: int = 0, ipc: int = 1) -> dict[str, Any]:
    return {"pool": pool, "ipc": ipc, "weighting": weighting, "seed": seed, "validation": {"adaptive": [score, score]}}


def test_differences_are_taken_pair_by_pair() -> None:
    found = [made("mtt", 0.5 + seed / 10, seed, pool) for seed in range(2) for pool in range(2)]
    found += [made("random", 0.5 + seed / 10 + gap, seed, pool) for (seed, pool), gap in GAPS.items()]
    found += [made("line_target", 0.7, 0), made("drop_12", None, 0)]
    rows = {row["weighting"]: row for row in differences(found)}
    assert list(rows) == ["mtt", "random", "drop_12", "line_target"]
    assert rows["mtt"]["minus_base"] is None
    gap = rows["random"]["minus_base"]
    assert (rows["random"]["pairs"], gap["estimate"]) == (4, pytest.approx(0.05))
    # four differences of sd 0.0163299: t(3) = 3.18245 gives 0.025985
    assert (gap["low"], gap["high"]) == (
        pytest.approx(0.05 - 0.025985, abs=1e-5),
        pytest.approx(0.05 + 0.025985, abs=1e-5),
    )
    assert rows["random"]["by_pool"] == [pytest.approx(0.04), pytest.approx(0.06)]
    assert rows["line_target"]["minus_base"]["low"] is None  # one pair has no interval
    assert (rows["drop_12"]["diverged"], rows["drop_12"]["mean"]) == (1, pytest.approx(1 / 3))


GAPS = {(0, 0): 0.03, (1, 0): 0.05, (0, 1): 0.05, (1, 1): 0.07}


def test_p_values_are_corrected_over_all_weightings_of_a_number_of_images() -> None:
    noise = [0.01, -0.01, 0.02, -0.02, 0.0]
    found = [made("mtt", 0.5, seed) for seed in range(5)]
    for weighting, gap in (("random", 0.02), ("shuffled", 0.0), ("drop_25", 0.04)):
        found += [made(weighting, 0.5 + gap + noise[seed], seed) for seed in range(5)]
    rows = {row["weighting"]: row for row in differences(found) if row["minus_base"]}
    ordered = sorted(rows.values(), key=lambda row: row["minus_base"]["p"])
    assert ordered[0]["weighting"] == "drop_25"
    for factor, row in zip((3, 2, 1), ordered, strict=True):
        assert row["adjusted"] == pytest.approx(min(1.0, factor * row["minus_base"]["p"]), rel=1e-6)
    assert "| 1 | drop_25 | 5 | 0.540 | +0.040 [" in table({"base": "mtt", "rows": differences(found)})


def test_every_weighting_is_a_setting_and_no_two_are_alike() -> None:
    for family in FAMILIES.values():
        own = {name: one for name, one in family.weightings.items() if name not in FROZEN}  # W is given to the others
        assert len({with_settings(DistillConfig(), one) for one in own.values()}) == len(own)
        assert family.base in family.weightings


def test_cells_of_one_seed_stand_together() -> None:
    found = list(cells(2, (1, 5), ("mtt", "random"), range(2)))
    assert len(found) == len(set(found)) == 16
    assert [cell.weighting for cell in found[:2]] == ["mtt", "random"]
    assert len({dataclasses.replace(cell, weighting="") for cell in found[:2]}) == 1


def small_trial(folder: Path, family: str) -> Trial:
    overrides = ["ingest.image_size=16", "network.width=4", "network.depth=2", "experts.count=2", "experts.epochs=5"]
    overrides += ["experts.batch_size=8", "distill.outer_steps=2", "distill.inner_steps=2", "distill.compile=off"]
    overrides += ["evaluate.num_networks=1", "evaluate.adaptive.steps=2", "evaluate.small_set_training.steps=2"]
    labels = torch.arange(24) % 3
    images = (torch.rand(24, 1, 16, 16, generator=stream(0)) + labels.view(-1, 1, 1, 1)) / 4
    part = LabelledImages(images, labels, ("a", "b", "c"), tuple(str(i) for i in range(24)))
    data = PreparedData(part, part, part, Normalisation(), "made up")
    return Trial(load_config(weight_trial.CONFIG, overrides), data, folder, FAMILIES[family])


def test_a_cell_is_made_once_and_paired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = small_trial(tmp_path, "parameters")
    found = {name: trial.run(Cell(0, 1, name, 3)) for name in ("mtt", "random", "mean_target", "inverse_variance")}
    for cell in found.values():
        assert cell["status"] == "completed"
        assert set(cell["validation"]) == {"own", "adaptive"}
        assert len(cell["validation"]["own"]) == 1
    assert len({cell["loss"] for cell in found.values()}) == 4
    monkeypatch.setattr(weight_trial, "distill", lambda *_: pytest.fail("distilled again"))
    assert trial.run(Cell(0, 1, "mtt", 3)) == found["mtt"]
    result = weight_trial.collect(tmp_path, trial.config, "parameters")
    assert {row["weighting"] for row in result["rows"]} == set(found)
    assert len(result["rows_own_recipe"]) == 4


def test_frozen_weights_are_those_of_another_seed_and_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial, given = small_trial(tmp_path, "parameters"), {}

    def noted(problem: DistillProblem, settings: DistillConfig) -> DistillResult:
        given[problem.experts[0].parent.name, problem.seed] = problem.weights
        return distill(problem, settings)

    monkeypatch.setattr(weight_trial, "distill", noted)
    for name, donor in (("frozen_same_pool", 1), ("frozen_other_pool", 0)):
        assert trial.run(Cell(1, 1, name, 3))["status"] == "completed"
        learned = DistilledSet.load(trial.set_file(Cell(donor, 1, "hypergradient", DONOR_SEED))).importance
        frozen = given["pool-1", 3]
        assert frozen is not None
        assert all(torch.equal(frozen[part], learned[part]) for part in learned)
        assert any(bool((w != w.flatten()[0]).any()) for w in learned.values())
    assert given["pool-0", DONOR_SEED] is None  # it began at w = 1


def test_agreement_of_weights_is_by_rank() -> None:
    one = {"a": torch.tensor([1.0, 2, 3, 4]), "b": torch.tensor([4.0, 5, 6]), "c": torch.tensor([9.0])}
    same = weight_agreement.agreement(one, {name: 2 * w for name, w in one.items()})
    assert same == pytest.approx({"all": 1.0, "within_tensors": 1.0, "between_tensors": 1.0})
    turned = weight_agreement.agreement(one, {"a": one["a"].flip(0), "b": one["b"].flip(0), "c": one["c"]})
    assert (turned["within_tensors"], turned["between_tensors"]) == (-1.0, 1.0)
    pair = {"kind": "same experts", **same}
    shown = weight_agreement.table({"pairs": [pair, {**pair, "kind": "other experts", "all": 0.5}]})
    assert "| other experts and images | 1 | 0.50 (0.50 to 0.50) | 1.00 (1.00 to 1.00) |" in shown


def test_warm_weightings_begin_with_the_base_s_set_of_their_own_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = small_trial(tmp_path, "warm")
    starts = {}

    def noted(problem: DistillProblem, settings: DistillConfig) -> DistillResult:
        starts[problem.seed, settings.objective] = problem.start
        return distill(problem, settings)

    monkeypatch.setattr(weight_trial, "distill", noted)
    short = {name: {**settings, "outer_steps": 2} for name, settings in trial.family.weightings.items()}
    trial.family = dataclasses.replace(trial.family, weightings=short)
    warm = trial.run(Cell(0, 1, "mtt", 3))  # makes its start
    base = trial.run(Cell(0, 1, "snapshots", 3))
    other = trial.run(Cell(0, 1, "hypergradient", 4))
    assert warm["status"] == base["status"] == other["status"] == "completed"
    begun = starts[3, "trajectory"]
    assert begun is not None
    assert begun.soft_labels is not None
    assert starts[3, "snapshots"] is None
    assert not torch.equal(begun.images, starts[4, "trajectory"].images)


def test_weights_on_features_are_compared_with_snapshots_by_one_recipe(tmp_path: Path) -> None:
    trial = small_trial(tmp_path, "features")
    steps = {"outer_steps": 20}  # until a learned weight acts: snapshots are visited again
    short = {name: {**settings, **steps} for name, settings in trial.family.weightings.items()}
    trial.family = dataclasses.replace(trial.family, weightings=short)
    found = {name: trial.run(Cell(0, 1, name, 3)) for name in short}
    assert len({cell["loss"] for cell in found.values()}) == len(short)
    assert {recipe for cell in found.values() for recipe in cell["validation"]} == {"adaptive"}
    result = weight_trial.collect(tmp_path, trial.config, "features")
    assert {row["weighting"]: row["minus_base"] is None for row in result["rows"]}["snapshots"]
    assert result["rows_own_recipe"] == []
