"""Splits and classes from folders: read as the collection means them, or refused with what was seen."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pydicom
import pytest
from PIL import Image

from medidistill.config import IngestConfig
from medidistill.errors import IngestError, QuarantineError
from medidistill.ingest import ingest
from medidistill.ingest.sources import class_names, find_records, workspace
from medidistill.ingest.sources.labels import normal_label

CONFIG = IngestConfig(image_size=16)


def png(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 20), dtype=np.uint8)).save(path)


def tree(folder, *places, count=2):
    """Make `count` pictures in each of `places`; a place that is a file is written as text."""
    seed = 0
    for place in places:
        if "." in place.rpartition("/")[2]:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_text("text")
            continue
        for i in range(count):
            png(folder / place / f"{i}.png", seed)
            seed += 1
    return folder


def found(folder, tmp_path, **settings):
    with workspace(tmp_path / "private") as place:
        return find_records(folder, IngestConfig(image_size=16, **settings), place)


def counted(result):
    return dict(Counter(f"{record.split or '-'} {record.label}" for record in result.records))


SPLIT = {"train a": 2, "train b": 2, "val a": 2, "val b": 2, "test a": 2, "test b": 2}
READ = {
    "splits above classes": (["train/a", "train/b", "val/a", "val/b", "test/a", "test/b"], SPLIT),
    "other names of splits": (
        ["Training/a", "TRAINING/b", "Valid/a", "validation/b", "dev/a", "Val/b", "testing/a", "TEST/b"],
        SPLIT | {"val a": 4, "val b": 4},
    ),
    "splits with spaces and hyphens": (
        ["train set/a", "Train-Set/b", "val_set/a", "val_set/b", "test set/a", "test set/b"],
        SPLIT,
    ),
    "splits below classes": (["a/train", "a/val", "a/test", "b/train", "b/val", "b/test"], SPLIT),
    "splits in a wrapper": (
        ["chest/x/train/a", "chest/x/train/b", "chest/x/val/a", "chest/x/val/b", "chest/x/test/a", "chest/x/test/b"],
        SPLIT,
    ),
    "each split unpacked into a folder of its name": (
        ["train/train/a", "train/train/b", "val/val/a", "val/val/b", "test/test/a", "test/test/b"],
        SPLIT,
    ),
    "images between splits and classes": (
        [f"{split}/images/{label}" for split in ("train", "val", "test") for label in "ab"],
        SPLIT,
    ),
    "patients below classes below splits": (
        [f"{split}/{label}/patient 7" for split in ("train", "val", "test") for label in "ab"],
        SPLIT,
    ),
    "classes": (["a", "b"], {"- a": 2, "- b": 2}),
    "a wrapper": (["data/a", "data/b"], {"- a": 2, "- b": 2}),
    "wrappers, with texts beside them": (
        ["README.txt", "LICENSE.md", "data/2024/notes.txt", "data/2024/a", "data/2024/b"],
        {"- a": 2, "- b": 2},
    ),
    "one split alone": (["data/train/a", "data/train/b"], {"- a": 2, "- b": 2}),
    "patients below classes": (["a/p1", "a/p2", "b/p1", "b/p3"], {"- a": 4, "- b": 4}),
    "pictures and masks": (["a/images", "a/masks", "b/Images", "b/lung masks"], {"- a": 2, "- b": 2}),
    "pictures and masks below splits": (
        [
            f"{split}/{label}/{kind}"
            for split in ("Train", "Val", "Test")
            for label in "ab"
            for kind in ("images", "masks")
        ],
        SPLIT,
    ),
    "a class folder within itself": (["a/a", "b/b"], {"- a": 2, "- b": 2}),
}


@pytest.mark.parametrize(("places", "expected"), READ.values(), ids=READ)
def test_layout_is_read(tmp_path, places, expected):
    result = found(tree(tmp_path / "in", *places), tmp_path)
    assert counted(result) == expected
    assert not result.quarantine


REFUSED = {
    "pictures right below splits": (
        ["train", "test"],
        r"right below folders that name a split and no class \(test, train\)",
    ),
    "a split beside a class": (
        ["train/a", "train/b", "test/a", "c"],
        "folders named after a split .* lie beside 1 folders",
    ),
    "a split in one class only": (["a/train", "a/test", "b"], r"\(test, train\) lie beside pictures in no such folder"),
    "a test folder among patients": (
        ["a/p1", "a/test", "b/p1"],
        r"\(test\) lie beside 1 folders .* in the class folders",
    ),
    "classes in and beside a folder": (
        ["a", "b", "old/a", "old/b"],
        "'a' is found both as a class and below the class 'old'",
    ),
    "pictures and masks at the top": (
        ["images", "masks"],
        "the folders images, masks look like pictures and their masks",
    ),
    "two names of one split": (
        ["train/a", "training/b"],
        "folders train, training are named after the split train and after no other",
    ),
    "more folders than classes": ([f"p{i:02d}" for i in range(21)], "21 folders would be classes, more than 20"),
    "tables below": (["x/a", "x/labels.csv", "y/a", "y/labels.csv"], "labels.csv lies in 2 of the sub-folders"),
    "no folder": (["."], "neither labels.csv nor a sub-folder for each class"),
    "an archive": (["xrays.zip"], "it holds an archive"),
}


@pytest.mark.parametrize(("places", "message"), REFUSED.values(), ids=REFUSED)
def test_ambiguous_layout_is_refused_with_what_was_seen(tmp_path, places, message):
    folder = tmp_path / "in"
    if places == ["."]:
        png(folder / "1.png")
    else:
        tree(folder, *places)
    with pytest.raises(IngestError, match=message) as caught:
        found(folder, tmp_path)
    assert "\n" not in str(caught.value)


def test_classes_named_in_the_configuration_are_no_splits_and_no_masks(tmp_path):
    tree(tmp_path / "in", "test", "control", "mask")
    result = found(tmp_path / "in", tmp_path, classes=("control", "test", "mask"))
    assert counted(result) == {"- test": 2, "- control": 2, "- mask": 2}


def test_pictures_beside_class_folders_are_set_aside_and_texts_are_not(tmp_path):
    tree(tmp_path / "in", "a", "b", "README.txt")
    png(tmp_path / "in/logo.png", 99)
    result = found(tmp_path / "in", tmp_path)
    assert [(one.key, one.reason) for one in result.quarantine] == [("logo.png", "lies in no class folder")]


def test_pictures_beside_the_folder_images_of_a_class_are_set_aside(tmp_path):
    tree(tmp_path / "in", "a/images", "a/old", "b/images")
    result = found(tmp_path / "in", tmp_path)
    assert counted(result) == {"- a": 2, "- b": 2}
    assert {one.reason for one in result.quarantine} == {"lies beside the folder images of its class"}


def test_sources_above_classes_are_pointed_out(tmp_path):
    tree(tmp_path / "in", "one/sick", "one/well", "two/sick", "two/well")
    (note,) = [note for note in found(tmp_path / "in", tmp_path).notes if "lie the same" in note]
    assert "Below each of the 2 classes lie the same 2 folders." in note


@pytest.mark.parametrize("patients_first", [False, True])
def test_no_note_names_a_folder_that_may_be_a_patient(tmp_path, patients_first):
    for patient in ("PHANTOM_ANNA", "PHANTOM_KARL"):
        for time in ("preop", "postop"):
            tree(tmp_path / "in", "/".join((patient, time) if patients_first else (time, patient)))
    notes = found(tmp_path / "in", tmp_path).notes
    assert any("same 2 folders" in note for note in notes)
    assert "PHANTOM" not in " ".join(notes)


def test_a_refusal_of_masks_names_no_other_folder(tmp_path):
    tree(tmp_path / "in", "images", "masks", "PHANTOM_ANNA")
    with pytest.raises(IngestError, match="the folders images, masks look like pictures and their masks") as caught:
        found(tmp_path / "in", tmp_path)
    assert "PHANTOM" not in str(caught.value)


def test_a_label_that_is_no_class_and_no_misspelt_one_is_kept_apart(tmp_path):
    tree(tmp_path / "in", "well", "PHANTOM_ANNA")
    with pytest.raises(IngestError, match="a label of 2 images is not one of the classes sick, well") as caught:
        ingest(tmp_path / "in", dataclasses.replace(CONFIG, classes=("sick", "well")))
    assert "PHANTOM" not in str(caught.value)
    assert caught.value.private == ("labels that are no class: PHANTOM_ANNA",)


def test_split_of_the_folders_reaches_the_result_and_is_said(tmp_path):
    tree(tmp_path / "in", *READ["splits in a wrapper"][0])
    result = ingest(tmp_path / "in", CONFIG)
    assert [len(part) for part in (result.train, result.val, result.test)] == [4, 4, 4]
    assert result.train.class_names == ("a", "b")
    assert "Split as the folders are named: train 4, val 4, test 4." in result.notes


def test_validation_is_drawn_from_training_where_the_folders_name_none(tmp_path):
    tree(tmp_path / "in", "train/a", "train/b", "test/a", "test/b", count=4)
    result = ingest(tmp_path / "in", IngestConfig(image_size=16, val_fraction=0.25))
    assert [part.counts() for part in (result.train, result.val, result.test)] == [
        {"a": 3, "b": 3},
        {"a": 1, "b": 1},
        {"a": 4, "b": 4},
    ]
    assert all(key.startswith("test/") for key in result.test.keys)
    assert any("names no validation split" in note for note in result.notes)


def test_a_class_whose_folder_cannot_be_read_ends_in_its_reason(tmp_path):
    tree(tmp_path / "in", "a")
    (tmp_path / "in/b").mkdir()
    for i in range(2):
        (tmp_path / f"in/b/{i}.png").symlink_to("/etc/passwd")
    with pytest.raises(QuarantineError, match=r"2 of 4 files.*2 x a symbolic link that leads out"):
        ingest(tmp_path / "in", CONFIG)


@pytest.mark.parametrize(
    ("labels", "alike"),
    [
        (("Normal", "normal"), True),
        (("pneumonia", "pneumonia "), True),
        (("Viral Pneumonia", "Viral_Pneumonia"), True),
        (("COVID-19", "covid 19"), True),
        (("COVID\u201119", "COVID-19"), True),
        (("1", "1.0"), True),
        (("1", "01"), True),
        (("-1", "-1.0"), True),
        (("1,0", "1.0"), True),
        (("0", "-0.0"), True),
        (("10", "1e1"), False),
        (("1", "-1"), False),
        (("1", "11"), False),
        (("1.0", "10"), False),
        (("Pneumonia", "Pneumonia 2"), False),
    ],
)
def test_labels_that_look_alike(labels, alike):
    one, other = map(normal_label, labels)
    assert (one == other) == alike


def test_class_folders_that_look_alike_are_refused_merged_or_kept(tmp_path):
    tree(tmp_path / "in", "Normal", "Pneumonia")
    tree(tmp_path / "in", "pneumonia ", count=1)
    with pytest.raises(IngestError, match=r"'Pneumonia' \(2 images\), 'pneumonia ' \(1 images\).*similar_classes"):
        found(tmp_path / "in", tmp_path)
    merged = found(tmp_path / "in", tmp_path, similar_classes="merge")
    assert counted(merged) == {"- Normal": 2, "- Pneumonia": 3}
    assert any("were merged" in note for note in merged.notes)
    kept = found(tmp_path / "in", tmp_path, similar_classes="keep")
    assert counted(kept) == {"- Normal": 2, "- Pneumonia": 2, "- pneumonia ": 1}
    assert any("kept as classes of their own" in note for note in kept.notes)


def test_a_merged_class_has_no_blank_at_the_end_of_its_name(tmp_path):
    tree(tmp_path / "in", "normal", "Pneumonia", count=1)
    tree(tmp_path / "in", "pneumonia ")
    assert counted(found(tmp_path / "in", tmp_path, similar_classes="merge")) == {"- normal": 1, "- pneumonia": 3}


def test_a_listed_class_gives_merged_labels_their_name(tmp_path):
    rows = "".join(f"{i}.png,{label}\n" for i, label in enumerate(["1.0", "1.0", "1", "0.0"]))
    for i in range(4):
        png(tmp_path / f"in/{i}.png", i)
    (tmp_path / "in/labels.csv").write_text("path,label\n" + rows)
    settings = {"classes": ("0", "1"), "similar_classes": "merge"}
    assert counted(found(tmp_path / "in", tmp_path, **settings)) == {"- 1": 3, "- 0": 1}
    with pytest.raises(IngestError, match="differ only in case"):
        found(tmp_path / "in", tmp_path)
    listed = found(tmp_path / "in", tmp_path, classes=("1", "1.0", "0.0"))  # listed: meant as they are
    assert counted(listed) == {"- 1": 1, "- 1.0": 2, "- 0.0": 1}


def test_number_classes_are_in_order_of_value(tmp_path):
    tree(tmp_path / "in", "10", "2", "-1", "x")
    png(tmp_path / "in/2.5/1.png")
    assert class_names(found(tmp_path / "in", tmp_path).records, CONFIG) == ("-1", "2", "2.5", "10", "x")


def test_a_label_with_control_characters_is_set_aside(tmp_path):
    tree(tmp_path / "in", "a", "b", "c\nd")
    reasons = {one.reason for one in found(tmp_path / "in", tmp_path).quarantine}
    assert reasons == {"the label holds control characters"}


def test_reports_in_class_folders_are_left_out_and_counted(tmp_path, save):
    for number, label in enumerate(("normal", "pneumonia") * 4):
        (tmp_path / label).mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 4096, (20, 20))
        save(tmp_path / label / f"{number}.dcm", pixels, number=number + 1, PatientID=f"P{number}")
    for label in ("normal", "pneumonia"):
        for number, sop_class in enumerate(("11.1", "88.11", "88.59", "104.1")):
            uid = f"1.2.840.10008.5.1.4.1.1.{sop_class}"
            path = save(tmp_path / label / f"other{number}", np.zeros((20, 20)), SOPClassUID=uid)
            dataset = pydicom.dcmread(path)
            dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
            del dataset.PixelData
            dataset.save_as(path)
    read = ingest(tmp_path, IngestConfig(image_size=16, val_fraction=0.0))
    assert read.quarantine == []
    assert len(read.manifest) == 8
    assert "8 DICOM objects without an image (reports, presentation states) were left out." in read.notes
