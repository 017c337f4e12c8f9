"""A guarantee is printed where every touch has a mechanism, and nowhere else: whole runs on PNG files of "patients"."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from medidistill.cli import main
from medidistill.config import as_dict
from medidistill.distilled_set import DistilledSet
from medidistill.evaluate import ArmRun
from medidistill.networks import register_network
from medidistill.privacy import Claim, ProvenanceLog
from medidistill.privacy.accounting import SubsampledGaussian, epsilon_spent

CONFIG = """\
name: guarded
seed: 3
threads: 1
ingest: {image_size: 16}
network: {width: 4, depth: 1}
experts:
  count: 2
  epochs: 3
  batch_size: 4
  dp: {enabled: true, noise_multiplier: 6, sampling_rate: 0.5, expected_patients: 2, steps_per_epoch: 2}
distill: {ipc: 1, outer_steps: 4, inner_steps: 2, expert_epochs: 1, max_start: 2, validate_every: 2, real_batch: 4}
evaluate:
  {arms: [random, iadd], num_networks: 2, full_epochs: 2, bootstrap: 100,
   small_set_training: {steps: 5}, adaptive: {steps: 5, batch_size: 16}}
"""


def _run(folder: Path, pictures: Path, *more: str, until: str = "distill") -> int:
    config = folder / "guarded.yaml"
    config.write_text(CONFIG)
    arguments = ["run", "--config", str(config), "--input", str(pictures), "--output", str(folder / "out"), "--quiet"]
    return main([*arguments, "--until", until, *(part for one in more for part in ("--set", one))])


@pytest.mark.parametrize(("change", "said"), [("", True), ("distill.importance.direction=descend", False)])
def test_an_ascending_w_that_nothing_stops_is_named(tmp_path, pictures, capsys, change, said):
    (tmp_path / "guarded.yaml").write_text(CONFIG)
    arguments = ["run", "--config", str(tmp_path / "guarded.yaml"), "--input", str(pictures)]
    arguments += ["--output", str(tmp_path / "out"), "--until", "distill", *(["--set", change] if change else [])]
    assert main(arguments) == 0
    assert ("W ascends and no outer step is chosen" in capsys.readouterr().err) is said


def _claim(folder: Path) -> Claim:
    return ProvenanceLog.load(folder / "out" / "provenance.json").claim()


def _kinds(folder: Path) -> list[str]:
    return [event.kind for event in ProvenanceLog.load(folder / "out" / "provenance.json").events]


def _recipe(folder: Path) -> dict:
    return json.loads((folder / "out" / "bundle" / "recipe.json").read_text())


def test_private_experts_are_covered_and_a_bare_touch_afterwards_ends_the_guarantee(tmp_path, pictures):
    assert _run(tmp_path, pictures, until="export") == 0
    assert _claim(tmp_path).kind == "dp"
    # nothing was chosen on the private validation patients, although the configuration would have
    assert not {"select_step", "choose_training"} & set(_kinds(tmp_path))
    # a student's training at the learned rate, and the comparison tried no other one
    training = _recipe(tmp_path)["training"]
    found = (training["momentum"], training["schedule"], training["lr"])
    assert found == (0.0, "constant", pytest.approx(_recipe(tmp_path)["alpha"]))
    cell = ArmRun.load(tmp_path / "out" / "evaluate" / "cells" / "iadd-convnet.safetensors")
    assert as_dict(cell.chosen) == training
    told = _recipe(tmp_path)["privacy"]
    assert told["guarantee"]["mechanism"] == "dp_sgd"
    assert 0 < told["guarantee"]["epsilon"] <= 8
    assert "differential privacy for each patient" in told["statement"]
    assert "data" not in _recipe(tmp_path)["digests"]

    # another method reads the same patients as they are: the history of the folder is what is judged
    assert main(["distill", "--output", str(tmp_path / "out"), "--method", "dm", "--quiet"]) == 0
    assert main(["export", "--output", str(tmp_path / "out"), "--quiet"]) == 0
    told = _recipe(tmp_path)["privacy"]
    assert "guarantee" not in told
    assert "differential privacy" not in told["statement"]
    assert "no formal guarantee" in told["statement"]


def normalised(num_classes: int) -> nn.Module:
    """Return a small network that keeps running statistics of its batches."""
    parts = (nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*parts, nn.Linear(4, num_classes))


def test_beside_a_private_set_stands_the_model_of_the_same_epsilon(tmp_path, pictures):
    other = register_network(normalised, trajectories=False).name
    settings = ["evaluate.arms=[full,random,dp_stats]", f"evaluate.architectures=[convnet,{other}]"]
    assert _run(tmp_path, pictures, *settings, until="export") == 0
    table = json.loads((tmp_path / "out" / "evaluate" / "comparison.json").read_text())
    shown = [(row["architecture"], row["arm"]) for row in table["rows"]]
    arms = ["full", "dp_full", "random", "dp_stats"]
    # with running statistics of its batches no network can be trained by patient
    assert shown == [("convnet", arm) for arm in arms] + [(other, arm) for arm in arms if arm != "dp_full"]
    # it is trained to be measured, and nothing of it leaves
    assert "train_rivals" in _kinds(tmp_path)
    assert [event.kind for event in _claim(tmp_path).events] == ["feature_statistics"]
    cell = ArmRun.load(tmp_path / "out" / "evaluate" / "cells" / "dp_full-convnet.safetensors")
    assert cell.chosen.steps == 2 * 3 * 2
    assert cell.info["epsilon"] == pytest.approx(epsilon_spent([SubsampledGaussian(6.0, 1.0, 1)], 1e-5))
    steps = SubsampledGaussian(cell.info["noise_multiplier"], 0.5, cell.chosen.steps)
    assert 0.85 * cell.info["epsilon"] < epsilon_spent([steps], 1e-5) < cell.info["epsilon"]
    assert not (cell.test_probabilities[0] == cell.test_probabilities[1]).all()


def test_a_private_run_can_be_planned(tmp_path, pictures, capsys):
    config = tmp_path / "guarded.yaml"
    config.write_text(CONFIG)
    arguments = ["run", "--config", str(config), "--input", str(pictures), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--dry-run"]) == 0
    assert "experts" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["evaluate.arms=[random,dm]"], "fitted to batches"),
        (["evaluate.arms=[random,bptt]"], "fitted to batches"),
        (["distill.init=real"], "began as copies"),
        (["distill.soft_labels=true", "distill.label_init=expert"], "fitted to batches"),
        (["experts.dp.enabled=false"], "networks were trained"),
        (["experts.dp.enabled=false", "evaluate.arms=[random,mtt_mean]"], "trained on from the experts' snapshots"),
        (["experts.dp.enabled=false", "evaluate.arms=[random,variance_w]"], "trained on from the experts' snapshots"),
        (["experts.dp.enabled=false", "ingest.normalisation=zca"], "whitening"),
    ],
    ids=["batches", "student", "start", "labels", "experts", "targets", "weights", "whitening"],
)
def test_whoever_reads_patients_without_a_mechanism_claims_nothing(tmp_path, pictures, settings, reason):
    assert _run(tmp_path, pictures, *settings) == 0
    claim = _claim(tmp_path)
    assert (claim.kind, claim.events) == ("none", ())
    assert any(reason in one for one in claim.reasons)


def test_a_choice_on_private_patients_is_written_down(tmp_path, pictures):
    assert _run(tmp_path, pictures, "experts.dp.enabled=false") == 0
    assert any("outer step was selected" in one for one in _claim(tmp_path).reasons)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("ingest.normalisation=zca", "a whitening fitted on the patients has no privacy mechanism"),
        ("ingest.normalisation=fixed", "ingest.normalisation='fixed' with dp_stats"),
        ("experts.dp={enabled: false}", "has no epsilon; set it"),
        ("evaluate.arms=[random,mtt_mean]", "'mtt_mean' with experts.dp trains networks on"),
        ("evaluate.arms=[random,variance_w]", "'variance_w' with experts.dp trains networks on"),
    ],
    ids=["whitening", "fixed", "statistics", "targets", "weights"],
)
def test_what_could_never_be_guaranteed_is_refused_before_the_work(tmp_path, pictures, capsys, setting, message):
    assert _run(tmp_path, pictures, "evaluate.arms=[random,dp_stats]", setting) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_set_of_fresh_noise_has_no_figures_of_the_one_before(tmp_path, pictures, capsys):
    assert _run(tmp_path, pictures, "evaluate.arms=[random,dp_stats]", until="export") == 0
    out = tmp_path / "out"
    made = out / "distill" / "dp_stats" / "distilled.safetensors"
    before, verdict = DistilledSet.load(made).images, (out / "verdict.json").read_text()
    shutil.rmtree(made.parent)
    assert main(["distill", "--output", str(out), "--quiet"]) == 0
    assert not torch.equal(DistilledSet.load(made).images, before)
    assert not (out / "verdict.json").exists()
    assert main(["export", "--output", str(out), "--quiet"]) == 2
    assert "stage evaluate has not finished" in capsys.readouterr().err
    assert main(["run", "--output", str(out), "--resume", "--until", "export", "--quiet"]) == 0
    assert (out / "verdict.json").read_text() != verdict


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        ("dp_stats", "ingest.normalisation=fixed", "ingest.normalisation='fixed' with dp_stats"),
        ("mtt_mean", "threads=1", "'mtt_mean' with experts.dp trains networks on"),
    ],
)
def test_a_method_beside_those_compared_is_refused_alike(tmp_path, pictures, capsys, method, setting, message):
    assert _run(tmp_path, pictures, setting, until="ingest") == 0
    assert main(["distill", "--method", method, "--output", str(tmp_path / "out"), "--quiet"]) == 2
    assert message in capsys.readouterr().err


def test_dp_stats_touches_the_patients_once_and_goes_on_with_what_it_released(tmp_path, pictures):
    assert _run(tmp_path, pictures, "evaluate.arms=[random,dp_stats]", until="export") == 0
    claim = _claim(tmp_path)
    assert [(event.kind, event.mechanism) for event in claim.events] == [("feature_statistics", "gaussian")]
    assert "train_experts" not in _kinds(tmp_path)
    assert _recipe(tmp_path)["method"] == "dp_stats"
    assert _recipe(tmp_path)["privacy"]["guarantee"]["mechanism"] == "gaussian"

    made = tmp_path / "out" / "distill" / "dp_stats" / "distilled.safetensors"
    before = DistilledSet.load(made)
    made.unlink()
    assert main(["distill", "--output", str(tmp_path / "out"), "--quiet"]) == 0
    assert (DistilledSet.load(made).images == before.images).all()
    assert _kinds(tmp_path).count("feature_statistics") == 1
    # without it the patients are asked again, and that is another event
    made.unlink()
    made.with_name("statistics.safetensors").unlink()
    assert main(["distill", "--output", str(tmp_path / "out"), "--quiet"]) == 0
    assert _kinds(tmp_path).count("feature_statistics") == 2
    assert not (DistilledSet.load(made).images == before.images).all()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_way_from_private_experts_over_the_audit_to_a_release(tmp_path, capsys):
    out, pictures = str(tmp_path / "out"), tmp_path / "many"
    pictures.mkdir()
    rng, rows = np.random.default_rng(0), ["path,label,patient_id,split"]
    for number in range(40):
        name, label = f"{number}.png", ("sick", "well")[number % 2]
        split = "train" if number < 24 else ("val", "test")[number // 2 % 2]
        Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8)).save(pictures / name)
        rows.append(f"{name},{label},p{number},{split}")
    (pictures / "labels.csv").write_text("\n".join(rows) + "\n")
    assert _run(tmp_path, pictures, until="evaluate") == 0
    assert main(["audit", out, "--profile", "quick", "--workers", "1", "--quiet"]) == 0
    assert (tmp_path / "out" / "audit" / "privacy-report.html").is_file()
    # so few patients resolve nothing, and what is not resolved does not pass
    capsys.readouterr()
    assert main(["export", "--output", out, "--release", "--quiet"]) == 4
    refused = capsys.readouterr().err
    assert "not resolvable" in refused
    assert not (tmp_path / "out" / "bundle").exists()
    rules = ["linkage", "copies", "membership_release", "lira", "rmia", "canaries"]
    by = ["--reason", "a rehearsal", "--by", "PHANTOM^0001"]
    overrides = [part for rule in rules if f"rule {rule}:" in refused for part in ("--override", rule)]
    assert main(["export", "--output", out, "--release", "--quiet", *overrides, *by]) == 0
    told = _recipe(tmp_path)["privacy"]
    assert told["released"]
    assert told["guarantee"]["mechanism"] == "dp_sgd"
    assert main(["verify", str(tmp_path / "out" / "bundle")]) == 0
    # a second release of another set of the same patients adds to the first
    ledger = json.loads((tmp_path / "privacy-ledger.json").read_text())
    assert len(ledger["releases"]) == 1
