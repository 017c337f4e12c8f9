"""The tables of the papers: what cells say together by hand, resumption, recipes, and the page."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import benchmark_page, make_tables, paper_tables
from benchmarks.claims import claim
from benchmarks.paper_results import collect, holm, paired
from benchmarks.paper_scales import Table
from medidistill.config import METHODS, TrainingConfig
from medidistill.distilled_set import LabelledImages
from medidistill.errors import DivergedError
from medidistill.evaluate import ArmRun
from medidistill.files import read_json, write_json
from medidistill.normalisation import Normalisation
from medidistill.pipeline import load_config
from medidistill.pipeline.prepared import PreparedData
from medidistill.seeding import stream

LABELS = np.array([0, 0, 1, 1])


def run(right: int, seed: int = 0, arm: str = "mtt") -> ArmRun:
    """A network that classifies the first `right` of four test images rightly."""
    guess = np.where(np.arange(4) < right, LABELS, 1 - LABELS)
    return ArmRun(
        arm,
        "convnet",
        seed,
        TrainingConfig(),
        2,
        2,
        (0.5,),
        test_probabilities=np.eye(2, dtype=np.float32)[guess][None],
    )


def test_rows_and_paired_differences_by_hand() -> None:
    # seeds: mtt 0.5, 0.75, 1.0; iadd 0.75, 1.0, 1.0; the third seed of random is not there yet
    rights = {"mtt": (2, 3, 4), "iadd": (3, 4, 4), "random": (1, 2)}
    runs = {
        (arm, "real" if arm == "random" else "noise", 1, "convnet", seed): run(right, seed, arm)
        for arm, seeds in rights.items()
        for seed, right in enumerate(seeds)
    }
    result = collect(runs, LABELS)
    rows = {row["arm"]: row for row in result["rows"]}
    assert rows["mtt"]["balanced_accuracy"]["estimate"] == pytest.approx(0.75)
    assert rows["mtt"]["by_seed"] == [0.5, 0.75, 1.0]
    half = 4.302653 * 0.25 / math.sqrt(3)  # t(0.975, 2)
    assert rows["mtt"]["balanced_accuracy"]["high"] == pytest.approx(0.75 + half, rel=1e-5)
    gaps = {(gap["arm"], gap["minus"]): gap for gap in result["differences"]}
    assert set(gaps) == {("iadd", "mtt"), ("random", "mtt"), ("mtt", "random"), ("iadd", "random")}
    assert gaps["iadd", "mtt"]["estimate"] == pytest.approx((0.25 + 0.25 + 0) / 3)
    assert gaps["random", "mtt"]["estimate"] == pytest.approx(-0.25)
    assert gaps["iadd", "random"]["estimate"] == pytest.approx(0.5)
    assert gaps["random", "mtt"]["p"] is gaps["random", "mtt"]["low"] is None  # two seeds: no interval
    assert gaps["iadd", "mtt"]["p"] == pytest.approx(0.183503, rel=1e-5)  # t = 2 at 2 degrees of freedom
    assert result["drops"] == []


def test_the_page_says_whether_iadd_beats_mtt() -> None:
    gap = {"arm": "iadd", "minus": "mtt", "start": "noise", "ipc": 1, "architecture": "convnet", "estimate": 0.1}
    (_, won) = benchmark_page._verdicts([{**gap, "low": 0.05, "high": 0.15}])
    (_, open_) = benchmark_page._verdicts([{**gap, "low": -0.05, "high": 0.25}])
    assert "+0.100 [+0.050, +0.150]; the interval leaves out 0" in won
    assert "holds 0: no difference is shown" in open_
    assert benchmark_page._verdicts([{**gap, "low": None, "high": None}]) == []


def test_starts_are_held_against_their_own_kind() -> None:
    runs = {
        (arm, start, 1, "convnet", 0): run(right, 0, arm)
        for arm, start, right in (("mtt", "noise", 1), ("mtt", "real", 3), ("iadd", "noise", 2), ("iadd", "real", 4))
    }
    gaps = {(gap["arm"], gap["start"]): gap["estimate"] for gap in collect(runs, LABELS)["differences"]}
    assert gaps["iadd", "noise"] == pytest.approx(0.25)
    assert gaps["iadd", "real"] == pytest.approx(0.25)


def test_drops_are_from_the_convnet_to_the_mean_of_the_others() -> None:
    rights = {"convnet": 4, "vit": 1, "resnet18": 2}
    runs = {("mtt", "noise", 1, name, 0): run(right) for name, right in rights.items()}
    (drop,) = collect(runs, LABELS)["drops"]
    assert drop["drop"]["estimate"] == pytest.approx(1.0 - (0.25 + 0.5) / 2)


def test_combinations_are_held_against_their_own_parts() -> None:
    rights = {"iadd": (1, 1, 2), "mtt_soft": (3, 3, 4), "iadd_soft": (2, 2, 3), "mtt": (0, 0, 0)}
    runs = {
        (arm, "noise", 1, "convnet", seed): run(r, seed, arm) for arm in rights for seed, r in enumerate(rights[arm])
    }
    parts = collect(runs, LABELS)["parts"]
    assert {(gap["minus"], gap["estimate"]) for gap in parts} == {("iadd", 0.25), ("mtt_soft", -0.25)}
    text = "\n".join(benchmark_page._parts(parts))
    assert "| 1 | iadd_soft | iadd | +0.250 [+0.250, +0.250] | better |" in text
    assert "| 1 | iadd_soft | mtt_soft | -0.250 [-0.250, -0.250] | worse |" in text
    few = {key: value for key, value in runs.items() if key[-1] < 2}
    assert benchmark_page._parts(collect(few, LABELS)["parts"]) == []  # two seeds: nothing is known


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, None, 0.03]) == [pytest.approx(0.06), pytest.approx(0.03), None, pytest.approx(0.06)]
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert paired({0: 1.0}, {1: 1.0}) is None
    assert paired(dict.fromkeys(range(3), 0.75), dict.fromkeys(range(3), 0.5))["p"] == 0.0  # no spread at all
    assert paired({0: 1.0}, {0: 0.5}) == {"estimate": 0.5, "low": None, "high": None, "p": None}


@pytest.mark.parametrize("scale", list(paper_tables.SCALES))
@pytest.mark.parametrize("table", list(paper_tables.TABLES))
def test_every_recipe_is_valid_at_every_scale_for_every_method(table: str, scale: str, tmp_path: Path) -> None:
    work = paper_tables.Work(table, scale, "cifar10", tmp_path, tmp_path, "cpu")
    assert work.recipes
    for ipc, recipe in work.recipes.items():
        assert recipe.distill.ipc == ipc
        for method in METHODS:
            settings = recipe.distill_by(method)
            assert settings.max_start - 1 + settings.expert_epochs <= recipe.experts.epochs, method
    cells = list(work.cells(paper_tables.ARMS, work.table.architectures))
    assert len(cells) == len(set(cells))
    assert {cell.arm for cell in cells} == set(paper_tables.ARMS)


def test_published_settings_reach_the_full_scale_as_they_are() -> None:
    # Cazenavette et al. 2022: CIFAR-10 ipc 10 with ZCA
    recipe = load_config("paper/cifar10-ipc10")
    mtt = recipe.distill_by("mtt")
    assert (mtt.inner_steps, mtt.expert_epochs, mtt.max_start) == (30, 2, 20)
    assert (mtt.image_optimizer, mtt.lr_images, mtt.alpha, mtt.init) == ("sgd", 100.0, 0.001, "real")
    assert (recipe.ingest.normalisation, recipe.network.width) == ("zca", 128)
    assert (recipe.experts.count, recipe.experts.epochs) == (100, 50)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> paper_tables.Work:
    def split(name: str, count: int) -> LabelledImages:
        labels = torch.arange(count) % 3
        images = torch.rand(count, 1, 16, 16, generator=stream(0, name)) * 0.5 + labels.view(-1, 1, 1, 1) * 0.2
        return LabelledImages(images, labels, ("a", "b", "c"), tuple(f"{name}-{i}" for i in range(count)))

    data = PreparedData(split("train", 60), split("val", 12), split("test", 12), Normalisation(), "d")
    monkeypatch.setattr(paper_tables, "load", lambda *a, **k: data)
    monkeypatch.setitem(paper_tables.TABLES, "covid", Table("covid-cxr", {1: "paper/covid-ipc1"}, ("convnet",)))
    return paper_tables.Work("covid", "smoke", "covid-cxr", tmp_path, tmp_path / "work", "cpu")


@pytest.mark.slow
def test_every_method_makes_a_cell_and_finished_cells_are_kept(work: paper_tables.Work) -> None:
    cells = list(work.cells(paper_tables.ARMS, ("convnet",)))
    for cell in cells:
        assert work.cell(cell).test_probabilities is not None
    files = {file: file.stat().st_mtime_ns for file in work.folder.rglob("*.safetensors")}
    for cell in cells:
        work.cell(cell)
    assert {file: file.stat().st_mtime_ns for file in work.folder.rglob("*.safetensors")} == files
    assert len([*work.folder.glob("experts-*")]) == 2  # plain and flat
    result = work.result(paper_tables.ARMS, ("convnet",))
    assert {row["arm"] for row in result["rows"]} == set(paper_tables.ARMS)
    assert result["missing"] == []
    assert result["images"] == {"train": 60, "val": 12, "test": 12}


def test_a_result_with_missing_cells_says_so_on_the_page(work: paper_tables.Work, tmp_path: Path) -> None:
    for cell in work.cells(("random", "kmeans"), ("convnet",)):
        if cell.arm == "random":
            work.cell(cell)
    result = work.result(("random", "kmeans"), ("convnet",))
    assert result["missing"] == ["kmeans-real-ipc1-convnet-seed0"]
    assert result["command"] == "python -m benchmarks.paper_tables --table covid --scale smoke"
    write_json(tmp_path / "results" / "paper_covid_smoke.json", result)
    text = benchmark_page.page(tmp_path / "results")
    assert "| 1 | random | real | convnet |" in text
    assert "Not run: 1 cells: at 1 images per class kmeans-real-convnet (seed 0)." in text
    assert "The figures mean nothing" in text
    assert "confounded" in text
    assert "Not run yet" in text


@pytest.mark.slow
def test_what_another_process_is_at_is_left_to_it_until_it_dies(work: paper_tables.Work) -> None:
    cell = next(iter(work.cells(("random",), ("convnet",))))
    lock = work._file(cell).with_suffix(".lock")
    program = (
        f"import time; from pathlib import Path; from benchmarks.claims import claim\nwith claim(Path({str(lock)!r}))"
    )
    program += " as mine: print(mine, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert not work.attempt(cell)
        assert not work._file(cell).exists()
        other.kill()
    assert work.attempt(cell)
    assert work._file(cell).is_file()


def test_many_classes_take_fewer_steps(tmp_path: Path) -> None:
    work = paper_tables.Work("cifar10", "cpu", "cifar10-jpeg", tmp_path, tmp_path, "cpu")
    assert {recipe.distill.outer_steps for recipe in work.recipes.values()} == {30}


@pytest.mark.slow
def test_two_processes_make_each_set_once(work: paper_tables.Work) -> None:
    cells = list(work.cells(("random", "mtt"), ("convnet",)))
    at_it = work._set(cells[1]).with_suffix(".lock")
    with claim(at_it) as mine:
        assert mine
        assert not work.attempt(cells[1])  # the set is in other hands, the cell waits
        assert work.attempt(cells[0])
    paper_tables.run_pending_cells(work, cells)
    assert work.result(("random", "mtt"), ("convnet",))["missing"] == []


def test_a_diverged_cell_is_named_and_not_tried_again(
    work: paper_tables.Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cells = list(work.cells(("mtt",), ("convnet",)))
    tried = []

    def diverge(cell: paper_tables.Cell) -> None:
        tried.append(cell)
        raise DivergedError("not finite")

    monkeypatch.setattr(work, "distilled", diverge)
    paper_tables.run_pending_cells(work, cells)
    paper_tables.run_pending_cells(work, cells)
    assert tried == cells
    result = work.result(("mtt",), ("convnet",))
    assert (result["diverged"], result["missing"]) == (["mtt-noise-ipc1-convnet-seed0"], [])
    write_json(tmp_path / "results" / "paper_covid_smoke.json", result)
    assert "Diverged, without a row: 1 cells: at 1 images per class the whole block (1 cells)." in benchmark_page.page(
        tmp_path / "results"
    )


def test_the_committed_page_is_what_the_committed_results_say() -> None:
    results = Path(make_tables.__file__).parent / "results"
    assert make_tables.PAGE.read_text(encoding="utf-8") == benchmark_page.page(results)
    for file in results.glob("paper_*.json"):
        assert read_json(file)["scale"] in file.stem
