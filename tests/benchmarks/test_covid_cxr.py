"""The benchmark's chain on a tiny problem: cells are kept, foreign ones refused, tables filled."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import covid_cxr, make_tables
from medidistill.config import (
    AdaptiveTraining,
    DistillConfig,
    EvaluateConfig,
    ExpertConfig,
    NetworkConfig,
    RunConfig,
    TrainingConfig,
)
from medidistill.distilled_set import LabelledImages, Normalisation
from medidistill.seeding import stream

CONFIG = RunConfig(
    network=NetworkConfig(width=2, depth=2),
    experts=ExpertConfig(count=2, epochs=3, batch_size=16),
    distill=DistillConfig(ipc=1, outer_steps=2, inner_steps=2, max_start=1, validate_every=1),
    evaluate=EvaluateConfig(
        full_epochs=1,
        small_set_training=TrainingConfig(steps=2, batch_size=4),
        adaptive=AdaptiveTraining(steps=2, batch_size=4),
        bootstrap=100,
    ),
)


def split(name: str, count: int) -> LabelledImages:
    labels = torch.arange(count) % 3
    images = torch.rand(count, 1, 16, 16, generator=stream(0, name))
    patients = tuple(f"{name}-{i}" for i in range(count))
    return LabelledImages(images, labels, ("a", "b", "c"), patients)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> covid_cxr.Bench:
    monkeypatch.setattr(covid_cxr, "load_config", lambda path: CONFIG)
    monkeypatch.setattr(covid_cxr, "SEEDS", (0, 1))
    monkeypatch.setattr(covid_cxr, "IPC", (1,))
    monkeypatch.setattr(covid_cxr, "ABLATION_IPC", 1)
    monkeypatch.setattr(covid_cxr, "SCORED_NETWORKS", 1)
    name = "tensor-unit_mean_square-descend"
    monkeypatch.setattr(covid_cxr, "ABLATION", ("mtt", covid_cxr.BFLOAT16, name))
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # minutes, for seconds of work
    read = SimpleNamespace(
        train=split("train", 24),
        val=split("val", 9),
        test=split("test", 12),
        digest="d",
        normalisation=Normalisation(),
        write_tables=lambda folder: None,
    )
    monkeypatch.setattr(covid_cxr, "ingest", lambda *a, **k: read)
    made = covid_cxr.Bench(tmp_path / "data", tmp_path / "work", (0, 1), "cpu")
    made.experts()
    return made


def test_cells_are_kept_paired_and_put_into_tables(bench: covid_cxr.Bench) -> None:
    for seed, variant in bench.ablation_cells():
        bench.ablate(seed, variant)
    ablation = bench.collect_ablation()
    assert ablation["seeds"] == [0, 1]
    assert not (bench.work / "test").exists()
    result = bench.collect_table()
    files = {file: file.stat().st_mtime_ns for file in bench.work.rglob("*.safetensors")}
    assert bench.collect_ablation() == ablation
    assert bench.collect_table() == result
    assert {file: file.stat().st_mtime_ns for file in bench.work.rglob("*.safetensors")} == files
    assert len(result["test_scored_by"]) == 2 + 2 * 4
    table = make_tables.covid_table(result)
    assert table.count("all real images") == 1
    assert "| 1 | IADD minus MTT |" in table
    assert "none (MTT)" in make_tables.ablation_table(ablation)


def test_a_cell_of_other_settings_is_refused(bench: covid_cxr.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.ablate(0, "mtt")
    for part, change in (
        ("distill", {"lr_images": 0.5}),
        ("evaluate", {"small_set_training": TrainingConfig(steps=3, batch_size=4)}),
    ):
        bench.config = dataclasses.replace(CONFIG, **{part: dataclasses.replace(getattr(CONFIG, part), **change)})
        with pytest.raises(SystemExit, match=r"mtt-ipc1-seed0.*other settings"):
            bench.ablate(0, "mtt")
    bench.config = CONFIG
    bench.ablate(0, "mtt")
    monkeypatch.setattr(covid_cxr, "SCORED_NETWORKS", 2)
    with pytest.raises(SystemExit, match=r"val/mtt-ipc1-seed0.*other settings"):
        bench.ablate(0, "mtt")


def test_filling_needs_its_markers() -> None:
    text = "a\n<!-- table:x:start -->\nold\n<!-- table:x:end -->\nb\n"
    assert make_tables.fill(text, "x", "new") == text.replace("old", "new")
    with pytest.raises(SystemExit, match="no markers"):
        make_tables.fill(text, "y", "new")
