"""The comparison as a stage: bundles from elsewhere, an external test set, sites, what is kept and what is redone."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import stat

import numpy as np
import pytest
import torch
from PIL import Image

from medidistill.distilled_set import LabelledImages
from medidistill.errors import ConfigError, IngestError
from medidistill.evaluate import ArmRun
from medidistill.ingest.sources import hash_patient
from medidistill.pipeline.comparison.arms import cell_file
from medidistill.pipeline.comparison.external import external_set
from medidistill.pipeline.comparison.scored_labels import load_scored_labels
from medidistill.pipeline.prepared import load_split
from medidistill.pipeline.runfolder.withholding import make_public
from medidistill.pipeline.stages.evaluate import evaluate

from .comparison_example import SMALL, bundle, ready_run, squares, write_folder

ZOO = ("convnet", "resnet18", "vgg11", "alexnet", "densenet121")
LEARNING = dataclasses.replace(SMALL, steps=40)


def png(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (16, 16), dtype=np.uint8)).save(path)


def test_a_bundle_from_elsewhere_is_an_arm_in_the_order_of_this_run(tmp_path):
    path = bundle(tmp_path / "st-elsewhere", names=("normal", "Covid 19"))
    run = ready_run(tmp_path / "run", arms=("full",), bundles=(str(path),), small_set_training=LEARNING)
    comparison = evaluate(run)
    rival = comparison.rows[1]
    assert (rival.arm, rival.training_images) == ("bundle-st-elsewhere", 8)
    assert rival.info[0]["ipc"] == 4
    # the labels of the bundle stand in the other order: wrong ones would put this at 0
    assert rival.balanced_accuracy.estimate > 0.9
    clinical = json.loads((run.folder.evaluate / "clinical.json").read_text())
    assert [(one["arm"], one["minus"]) for one in clinical["differences"]] == [("bundle-st-elsewhere", "full")]


def test_soft_labels_of_a_bundle_are_reordered_too(tmp_path):
    covid = squares(8, 16, 77).labels == 0
    soft = torch.stack([0.1 + 0.8 * ~covid, 0.1 + 0.8 * covid], dim=1)
    path = bundle(tmp_path / "soft", names=("Normal", "COVID-19"), soft_labels=soft)
    run = ready_run(tmp_path / "run", arms=("full",), bundles=(str(path),), small_set_training=LEARNING)
    assert evaluate(run).rows[1].balanced_accuracy.estimate > 0.9


def test_test_images_are_normalised_as_the_bundle_says(tmp_path):
    path = bundle(tmp_path / "one")
    runs = [ready_run(tmp_path / name, arms=("full",), bundles=(str(path),)) for name in ("a", "b")]
    evaluate(runs[0])
    own = ArmRun.load(cell_file(runs[0].folder, "bundle-one", "convnet")).test_probabilities
    for split in ("train", "val", "test"):  # the run now says `fixed`; the bundle still says `per_image`
        file = runs[1].folder.ingest / f"{split}.safetensors"
        from medidistill.pipeline.prepared import load_split, save_split

        images, header, _ = load_split(file)
        header["normalisation"] = {"kind": "fixed", "mean": 0.5, "std": 0.25}
        save_split(file, images, {key: header[key] for key in ("digest", "normalisation")})
    evaluate(runs[1])
    assert (ArmRun.load(cell_file(runs[1].folder, "bundle-one", "convnet")).test_probabilities == own).all()


def test_wrong_bundles_are_refused_before_any_training(tmp_path):
    good = bundle(tmp_path / "good")
    changed = bundle(tmp_path / "changed")
    (changed / "recipe.json").write_text("{}")
    other = bundle(tmp_path / "other", names=("COVID-19", "Pneumonia"))
    large = bundle(tmp_path / "large", size=32)
    twin = bundle(tmp_path / "twin" / "good")
    for paths, error, message in (
        ((tmp_path / "none",), IngestError, "no such folder"),
        ((changed,), IngestError, r"not as it was written \(recipe.json: changed"),
        ((other,), ConfigError, "its classes are COVID-19, Pneumonia, those of this run COVID-19, Normal"),
        ((large,), ConfigError, "1 x 32 x 32, those of this run 1 x 16 x 16; set ingest.image_size=32"),
        ((good, twin), ConfigError, "a second bundle called bundle-good"),
    ):
        run = ready_run(tmp_path / f"run-{message[:9]}", bundles=tuple(str(path) for path in paths))
        with pytest.raises(error, match=message):
            evaluate(run)
        assert run.record.test_openings == []
        assert not run.folder.evaluate.exists()


def test_a_bundle_in_a_run_folder_is_called_by_the_run(tmp_path):
    path = bundle(tmp_path / "north 2025" / "bundle")
    run = ready_run(tmp_path / "run", arms=("full",), bundles=(str(path),))
    assert evaluate(run).rows[1].arm == "bundle-north-2025"


def test_an_external_set_is_read_whole_and_has_tables_of_its_own(tmp_path):
    # labels of the external set are turned around, so that its table cannot be that of the test split
    elsewhere = squares(20, 16, 9)
    turned = dataclasses.replace(elsewhere, labels=1 - elsewhere.labels)
    source = write_folder(tmp_path / "elsewhere", turned)
    run = ready_run(tmp_path / "run", arms=("full",), full_epochs=20, external=str(source))
    inside = evaluate(run).rows[0]
    folder = run.folder.evaluate / "external"
    outside = json.loads((folder / "comparison.json").read_text())
    assert inside.balanced_accuracy.estimate > 0.9
    assert outside["rows"][0]["balanced_accuracy"]["estimate"] < 0.1
    assert (outside["test_images"], outside["test_patients"]) == (20, 10)
    assert {path.name for path in folder.iterdir()} >= {"clinical.json", "clinical.csv", "comparison.csv", "curves.csv"}
    assert json.loads((folder / "clinical.json").read_text())["test"]["images"] == 20
    # thresholds come from this run's validation split
    assert ArmRun.load(cell_file(run.folder, "full", "convnet")).external_probabilities.shape == (1, 20, 2)
    # what predictions for single images are held against
    labels = load_scored_labels(run.folder, elsewhere=True)
    outside_labels = load_split(run.folder.ingest / "external" / "images.safetensors")[0].labels
    assert labels.test.tolist() == outside_labels.tolist()
    assert len(set(labels.patients.tolist())) == 10
    assert len(load_scored_labels(run.folder).test) == len(run.data().test)
    kept = run.folder.ingest / "external"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.iterdir()} == {0o600}
    # read once: the folder may be gone when the run goes on
    before = run.record.test_openings[:]
    (source / "labels.csv").unlink()
    assert evaluate(run).rows[0] == inside
    assert run.record.test_openings == before


def test_an_external_set_must_be_of_elsewhere_and_of_the_same_classes(tmp_path):
    source = write_folder(tmp_path / "elsewhere", squares(8, 16, 9))
    run = ready_run(tmp_path / "run", external=str(source))
    from medidistill.files import sha256_file

    (run.folder.ingest / "manifest.csv").write_text(f"key,sha256\nx,{sha256_file(source / '3.png')}\n")
    with pytest.raises(IngestError, match="1 of 8 images are files of this run's own collection"):
        evaluate(run)
    other = LabelledImages(**{**vars(squares(8, 16, 8)), "class_names": ("COVID-19", "norml")})
    run = ready_run(tmp_path / "other", external=str(write_folder(tmp_path / "labels", other)))
    with pytest.raises(IngestError, match="did you mean 'Normal'"):
        evaluate(run)


def test_an_external_set_that_cannot_be_read_names_nobody(tmp_path):
    source = tmp_path / "elsewhere"
    for place, patient in enumerate(("PHANTOM_ANNA", "PHANTOM_KARL")):
        write_folder(source.with_name("made"), squares(4, 16, place))
        shutil.rmtree(source / patient, ignore_errors=True)
        shutil.copytree(source.with_name("made"), source / patient, ignore=shutil.ignore_patterns("*.csv"))
        shutil.rmtree(source.with_name("made"))
    inbox = tmp_path / "inbox"  # what a night knows of
    inbox.mkdir()
    for name, break_it, message in (
        ("labels", lambda: None, "a label of 4 images is not one of the classes COVID-19, Normal"),
        ("depth", lambda: png(source / "PHANTOM_KARL/PHANTOM_ANNA/1.png"), "is found both as a class and below"),
    ):
        break_it()
        run = ready_run(tmp_path / name, external=str(source))
        with pytest.raises(IngestError, match=f"^evaluate.external={source}: .*{message}") as caught:
            evaluate(run)
        run.journal.stage_started("evaluate")
        run.journal.end(caught.value)
        public = make_public(caught.value, [inbox])
        shown = run.folder.status_file.read_text() + run.folder.events_file.read_text() + public.line
        assert "PHANTOM" not in shown
        assert "PHANTOM_ANNA" in public.details
        assert "PHANTOM_ANNA" in (run.folder.ingest / "error.txt").read_text()


def own_patients(run, rows):
    """Write who is in the run's own collection: (patient, source of the identifier, split)."""
    lines = [f"{i},{i},{hash_patient(patient)},{known_by},{split}" for i, (patient, known_by, split) in enumerate(rows)]
    (run.folder.ingest / "manifest.csv").write_text(
        "key,sha256,patient_id,patient_source,split\n" + "".join(f"{line}\n" for line in lines)
    )


def test_images_of_patients_whom_the_run_learned_from_are_set_aside(tmp_path, capsys):
    source = write_folder(tmp_path / "elsewhere", squares(20, 16, 9))  # ten patients, two images each
    run = ready_run(tmp_path / "run", arms=("full",), external=str(source))
    run = dataclasses.replace(run, progress=True)
    known = [
        ("PHANTOM^9-0", "table", "train"),
        ("PHANTOM^9-1", "header", "val"),
        ("PHANTOM^9-2", "table", "test"),  # nothing was learned from these
        ("PHANTOM^9-3", "study", "train"),  # no identifier of a patient
    ]
    own_patients(run, known)
    evaluate(run)
    told = "4 of 20 images of the external test set are set aside: their patients are in this run's training or"
    assert told in capsys.readouterr().err
    kept = run.folder.ingest / "external"
    images = load_split(kept / "images.safetensors")[0]
    gone = {hash_patient("PHANTOM^9-0"), hash_patient("PHANTOM^9-1")}
    assert len(images) == 16
    assert not gone & set(images.patient_ids)
    with open(kept / "manifest.csv", newline="") as file:
        assert [row["patient_id"] for row in csv.DictReader(file)] == list(images.patient_ids)
    with open(kept / "quarantine.csv", newline="") as file:
        assert [row["key"] for row in csv.DictReader(file)] == ["0.png", "1.png", "2.png", "3.png"]
    outside = json.loads((run.folder.evaluate / "external" / "comparison.json").read_text())
    assert (outside["test_images"], outside["test_patients"]) == (16, 8)
    assert any(note.startswith("4 images of the external test set were set aside") for note in outside["notes"])
    inside = json.loads((run.folder.evaluate / "comparison.json").read_text())
    assert not any("set aside" in note for note in inside["notes"])
    # a set that an earlier version has read is read again
    (kept / "source.json").write_text(
        json.dumps({k: v for k, v in json.loads((kept / "source.json").read_text()).items() if k != "set_aside"})
    )
    own_patients(run, known[:1])
    assert len(external_set(run, run.data())) == 18


def test_an_external_set_of_the_own_patients_is_refused(tmp_path):
    source = write_folder(tmp_path / "elsewhere", squares(8, 16, 9))
    for name, taken, message in (
        ("all", (0, 1, 2, 3), "8 of 8 images have the Patient IDs of patients in this run's training or validation"),
        ("class", (0, 2), "4 of 8 images have .* split, and class 'COVID-19' has no others; name a test set of other"),
    ):
        run = ready_run(tmp_path / name, external=str(source))
        own_patients(run, [(f"PHANTOM^9-{number}", "table", "train") for number in taken])
        with pytest.raises(IngestError, match=message):
            evaluate(run)
        assert run.record.test_openings == []


def test_a_run_with_sites_shows_subgroups_and_whether_the_source_can_be_told(tmp_path):
    run = ready_run(tmp_path / "run", images=120, site_shift=0.3)
    evaluate(run)
    clinical = json.loads((run.folder.evaluate / "clinical.json").read_text())
    groups = {column: [group["group"] for group in found] for column, found in clinical["subgroups"].items()}
    assert groups == {"sex": ["F", "M"], "age": ["18-39", "65-79", "unknown"], "site": ["north", "south"]}
    assert clinical["source_probe"]["site"]["balanced_accuracy"]["estimate"] > 0.9
    plain = ready_run(tmp_path / "plain", images=120)
    evaluate(plain)
    clinical = json.loads((plain.folder.evaluate / "clinical.json").read_text())
    assert clinical["source_probe"]["site"]["balanced_accuracy"]["estimate"] < 0.7


def test_cells_are_kept_where_only_the_questions_change(tmp_path):
    run = ready_run(tmp_path / "run")
    evaluate(run)
    file = cell_file(run.folder, "full", "convnet")
    before = file.stat().st_mtime_ns
    rules = run.config.evaluate
    asked = dataclasses.replace(rules, clinical=dataclasses.replace(rules.clinical, margin=0.1))
    run.config = dataclasses.replace(run.config, evaluate=asked)
    evaluate(run)
    assert file.stat().st_mtime_ns == before
    assert json.loads((run.folder.evaluate / "clinical.json").read_text())["settings"]["margin"] == 0.1
    # a margin chosen after the first look is a second look
    assert len(run.record.test_openings) == 2
    shown = dataclasses.replace(asked, saliency=dataclasses.replace(asked.saliency, cases=2))
    run.config = dataclasses.replace(run.config, evaluate=shown)
    evaluate(run)
    assert len(run.record.test_openings) == 2
    run.config = dataclasses.replace(run.config, evaluate=dataclasses.replace(asked, full_epochs=2))
    evaluate(run)
    assert file.stat().st_mtime_ns != before


def test_all_real_images_are_trained_once_for_every_number_of_distilled_ones(tmp_path):
    run = ready_run(tmp_path / "run")
    evaluate(run)
    files = {arm: cell_file(run.folder, arm, "convnet") for arm in ("full", "random")}
    before = {arm: file.stat().st_mtime_ns for arm, file in files.items()}
    more = dataclasses.replace(run.config.distill, ipc=run.config.distill.ipc + 1)
    run.config = dataclasses.replace(run.config, distill=more)
    evaluate(run)
    assert files["full"].stat().st_mtime_ns == before["full"]
    assert files["random"].stat().st_mtime_ns != before["random"]


def test_a_long_cell_is_compiled_and_says_so(tmp_path, monkeypatch):
    from medidistill.pipeline.comparison import cells

    asked = []
    real = cells.arm_program
    monkeypatch.setattr(
        cells, "arm_program", lambda arm, **o: asked.append(o["compile"]) or real(arm, **o | {"compile": False})
    )
    monkeypatch.setattr(cells, "should_compile", lambda mode, work: (mode, work))
    run = ready_run(tmp_path / "run", arms=("full",), architectures=("convnet",), num_networks=3)
    comparison = evaluate(run)
    # an epoch is 1 step (48 images in a batch of 64): 3 networks that count, 2 for each of 1, 1 and 2 epochs to choose
    work = (3 * 1 + 2 * (1 + 1 + 2)) * 48 * 4 * 16 * 16
    assert asked == [("auto", work)]
    assert comparison.rows[0].info[0]["compiled"] == ("auto", work)


def test_library_networks_train_eagerly_whatever_is_asked(tmp_path):
    run = ready_run(tmp_path / "run", size=32, images=16, arms=("full",), architectures=("resnet18",), compile="on")
    assert evaluate(run).rows[0].info[0]["compiled"] is False


_LARGE = ("vgg11", "densenet121", "resnet18")  # resnet18 goes through it above, on smaller images


@pytest.mark.parametrize(
    "architecture", [pytest.param(one, marks=pytest.mark.slow) if one in _LARGE else one for one in ZOO]
)
def test_every_architecture_goes_through_the_comparison(tmp_path, architecture):
    run = ready_run(tmp_path / "run", size=64, images=16, arms=("full",), architectures=(architecture,))
    comparison = evaluate(run)
    assert [(row.arm, row.architecture) for row in comparison.rows] == [("full", architecture)]
    with open(run.folder.evaluate / "clinical.csv") as file:
        assert {row["architecture"] for row in csv.DictReader(file)} == {architecture}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_architectures_and_arms_in_one_comparison(tmp_path):
    path = bundle(tmp_path / "one", size=64)
    arms = ("full", "random")
    run = ready_run(
        tmp_path / "run", size=64, images=24, num_networks=2, arms=arms, bundles=(str(path),), architectures=ZOO
    )
    comparison = evaluate(run)
    assert {(row.arm, row.architecture) for row in comparison.rows} == {
        (arm, name) for arm in (*arms, "bundle-one") for name in ZOO
    }


def test_cells_beside_each_other_are_those_of_one_after_the_other(tmp_path, monkeypatch):
    from medidistill.networks import Workers
    from medidistill.pipeline import work

    arms = ("full", "random", "kmeans")
    alone = ready_run(tmp_path / "alone", arms=arms, architectures=("convnet",), num_networks=3)
    one_after_the_other = evaluate(alone)
    monkeypatch.setattr(work, "_MIN_WORK_FOR_PROCESSES", 0.0)
    run = ready_run(tmp_path / "run", arms=arms, architectures=("convnet",), num_networks=3)
    run.config = dataclasses.replace(run.config, threads=2)
    with Workers(2) as run.workers:
        beside = evaluate(run)
    assert beside.rows == one_after_the_other.rows
    assert len(list((run.folder.evaluate / "cells").glob("*-convnet.safetensors"))) == len(arms)


def test_the_bar_is_that_of_the_first_unfinished_cell_and_knows_how_far_it_is(tmp_path, monkeypatch):
    from medidistill.pipeline.comparison import cells
    from medidistill.pipeline.runfolder.progress import Bar

    shown = []
    monkeypatch.setattr(Bar, "at", lambda self, done, total, **_: shown.append((self._title, done, total)))
    run = ready_run(tmp_path / "run")
    four = [cells._Cell(f"arm{n}", "convnet", tmp_path, "", (n, 4)) for n in range(4)]
    with cells._Bars(run, four) as bars:
        bars.at(0, 1, 2)
        bars.at(1, 1, 2)
        bars.at(2, 1, 2)
        bars.end(1)
        bars.at(3, 1, 2)
        bars.end(0)
        bars.at(2, 2, 2)
        bars.end(2)
        bars.end(3)
    titles = [f"evaluate arm{n} convnet" for n in (0, 2, 2, 3)]
    assert shown == [(title, done, 2) for title, done in zip(titles, (1, 1, 2, 1), strict=True)]
