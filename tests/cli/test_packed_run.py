"""A whole run that packs, begins at a coarse side, warm-starts IADD and delivers what is best on validation."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

import medidistill
from medidistill.cli import main
from medidistill.distilled_set import DistilledSet
from medidistill.errors import StoppedError
from medidistill.pipeline import RunFolder, load_config, run

CONFIG = """\
seed: 0
threads: 1
ingest: {image_size: 16}
network: {width: 4, depth: 1}
experts: {count: 2, epochs: 3, batch_size: 16}
distill:
  {ipc: 1, factor: 2, coarse: 2, outer_steps: 6, inner_steps: 2, expert_epochs: 1, max_start: 2, validate_every: 3}
evaluate:
  {arms: [packed, snapshots, kernel_warm, iadd_warm], num_networks: 2, full_epochs: 2, bootstrap: 100,
   small_set_training: {steps: 5}, adaptive: {steps: 5}}
"""


@pytest.fixture(scope="module")
def packed(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    (folder / "packed.yaml").write_text(CONFIG)
    out = folder / "out"
    arguments = ["--config", str(folder / "packed.yaml"), "--input", str(tiny.phantoms), "--output", str(out)]
    assert main(["run", *arguments, "--quiet"]) == 0
    return out


def _json(path: Path):
    return json.loads(path.read_text())


def test_bundle_holds_every_decoded_image_and_says_how_they_are_stored(packed):
    recipe = _json(packed / "bundle" / "recipe.json")
    storage = recipe["storage"]
    assert (storage["packed"], storage["bits"], storage["shape"], storage["side"]) == (True, 8, [12, 1, 8, 8], 16)
    assert recipe["images"] == len(list((packed / "bundle" / "png").glob("*.png"))) == 12
    assert len(list((packed / "bundle" / "dicom").glob("*.dcm"))) == 12
    assert main(["verify", str(packed / "bundle")]) == 0
    bundle = medidistill.load(packed / "bundle")
    assert bundle.images.shape == (12, 1, 16, 16)
    assert (packed / "report.html").is_file()


def test_delivered_method_is_the_best_on_validation_and_the_card_can_say_among_what(packed):
    recipe = _json(packed / "bundle" / "recipe.json")
    among = recipe["distillation"]["chosen_among"]
    assert set(among) == {"snapshots", "kernel_warm", "iadd_warm"}
    assert among[recipe["method"]] == max(among.values())


def test_provenance_names_what_was_matched_and_chosen(packed):
    kinds = {event["kind"] for event in _json(packed / "provenance.json")["events"]}
    assert {"match_features", "real_batches", "choose_method", "choose_training"} <= kinds


def test_coarse_experts_and_coarse_sets_lie_beside_the_others(packed):
    assert len(list((packed / "experts" / "coarse-2").glob("expert-*.safetensors"))) == 2
    small = DistilledSet.load(packed / "distill" / "snapshots" / "coarse" / "distilled.safetensors")
    assert small.images.shape == (12, 1, 8, 8)


def test_resume_keeps_every_finished_stage(packed):
    before = {path: path.stat().st_mtime_ns for path in packed.rglob("*.safetensors")}
    assert main(["run", "--output", str(packed), "--resume", "--quiet"]) == 0
    assert {path: path.stat().st_mtime_ns for path in packed.rglob("*.safetensors")} == before


@pytest.mark.parametrize("stop_at", [3, 8])  # at the coarse side, and while it is refined
def test_a_stop_in_either_part_resumes_to_the_same_set(packed, tiny, tmp_path, stop_at, monkeypatch):
    from medidistill.pipeline.stages import distill

    config, out, seen = load_config(packed.parent / "packed.yaml"), tmp_path / "out", 0
    shown = distill._shown

    def stopping(entry):
        nonlocal seen
        seen += 1
        if seen == stop_at:
            raise StoppedError("stopped by the test", signal.SIGTERM)
        return shown(entry)

    with monkeypatch.context() as patched:
        patched.setattr(distill, "_shown", stopping)
        with pytest.raises(StoppedError):
            run(config, tiny.phantoms, out, progress=False)
    run(config, None, out, progress=False, resume=True, until="distill/snapshots")
    made = RunFolder(out).distill("snapshots") / "distilled.safetensors"
    assert made.read_bytes() == (packed / "distill" / "snapshots" / "distilled.safetensors").read_bytes()


@pytest.mark.slow
def test_more_steps_under_a_schedule_give_the_set_of_a_fresh_run(packed, tiny, tmp_path):
    # snapshots: a cosine over all steps, and as many steps at the coarse side
    grown, fresh, steps = tmp_path / "grown", tmp_path / "fresh", ["--set", "distill.outer_steps=8"]
    shutil.copytree(packed, grown)
    more = ["--resume", *steps, "--until", "distill/snapshots", "--quiet"]
    assert main(["run", "--output", str(grown), *more]) == 0
    begin = ["--config", str(packed.parent / "packed.yaml"), "--input", str(tiny.phantoms), "--output", str(fresh)]
    assert main(["run", *begin, *steps, "--until", "distill/snapshots", "--quiet"]) == 0
    made = [folder / "distill" / "snapshots" / "distilled.safetensors" for folder in (grown, fresh)]
    assert torch.equal(*(DistilledSet.load(file).images for file in made))


@pytest.mark.slow
def test_a_set_of_draws_comes_with_card_report_and_its_use_of_patients(tiny, tmp_path):
    drawn = CONFIG.replace("coarse: 2, ", "").replace(
        "[packed, snapshots, kernel_warm, iadd_warm]", "[random, mixture]"
    )
    (tmp_path / "drawn.yaml").write_text(f"{drawn}methods: {{mixture: {{group_patients: 2, decoder: spectral}}}}\n")
    out = tmp_path / "out"
    arguments = ["--config", str(tmp_path / "drawn.yaml"), "--input", str(tiny.phantoms), "--output", str(out)]
    assert main(["run", *arguments, "--quiet"]) == 0
    card = (out / "bundle" / "README.md").read_text()
    assert "they are draws of a Gaussian for each group of alike patients" in card
    assert "optimised" not in card.split("## ")[0]
    assert "How the distillation went" not in (out / "report.html").read_text()
    assert "fit_groups" in {event["kind"] for event in _json(out / "provenance.json")["events"]}
