"""The answer key of the planted set: its rows, the form that the challenge's script reads, and its score."""

from __future__ import annotations

import csv
import hashlib
import json
import sqlite3
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import FileDataset

from benchmarks.answer_key import Answer, Score, answers, score, write_answers, write_mappings
from medidistill.config import PhantomConfig
from medidistill.ingest import generate_phantom
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify_folder
from tests.support.planted import Planted, plant

LAX = DeidentifyConfig(max_quarantine=1.0)


@pytest.fixture
def key() -> Key:
    return Key(b"correct-horse-battery-staple-0123456789")


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("answers") / "phantoms"
    generate_phantom(folder, PhantomConfig(patients_per_class=5, images_per_patient=2, size=128))
    return sorted(folder.rglob("*.dcm"))


def planted_file(phantoms: list[Path], kind: str, folder: Path) -> tuple[Planted, list[Answer], FileDataset]:
    original = pydicom.dcmread(phantoms[0])
    one = plant(pydicom.dcmread(phantoms[0]), kind, 7, folder)
    return one, answers(one, original), pydicom.dcmread(one.path)


def test_each_element_has_its_action(phantoms: list[Path], tmp_path: Path) -> None:
    one, rows, dataset = planted_file(phantoms, "sequence, 3 deep", tmp_path)
    by_tag = {(row.tag, row.action): row for row in rows}
    nested = "<(0008,2218)>[<0000>]<(0008,2220)>[<0000>]<(0008,2220)>[<0000>]"
    assert by_tag[f"{nested}<(0008,0080)>", "text_removed"].action_text == one.values[0]
    assert by_tag[f"{nested}<(0008,0090)>", "text_removed"].value == one.values[0]
    assert by_tag["<(0010,0010)>", "text_removed"].action_text == str(dataset.PatientName)
    assert by_tag["<(0008,0018)>", "uid_changed"].value == dataset.SOPInstanceUID
    assert by_tag["<(0008,0018)>", "uid_consistent"].value == dataset.SOPInstanceUID
    assert by_tag["<(0010,0020)>", "patid_consistent"].value == dataset.PatientID
    assert by_tag["<(0008,0020)>", "date_shifted"].value == dataset.StudyDate
    assert by_tag["<(0028,0010)>", "text_retained"].action_text == str(dataset.Rows)
    assert by_tag["<(7fe0,0010)>", "pixels_retained"].action_text == hashlib.md5(dataset.PixelData).hexdigest()
    assert {row.sop_instance_uid for row in rows} == {str(dataset.SOPInstanceUID)}


def test_private_elements_are_named_by_their_creator(phantoms: list[Path], tmp_path: Path) -> None:
    _, rows, _ = planted_file(phantoms, "private elements", tmp_path)
    assert '<(0011,"PHANTOM VENDOR",01)>' in {row.tag for row in rows if row.action == "text_removed"}


def test_changed_pixels_are_not_to_be_retained(phantoms: list[Path], tmp_path: Path) -> None:
    _, rows, _ = planted_file(phantoms, "after the last pixel", tmp_path)
    assert "pixels_retained" not in {row.action for row in rows}


def test_a_clean_result_takes_every_action_and_a_copy_of_the_input_few(
    phantoms: list[Path], key: Key, tmp_path: Path
) -> None:
    kinds = ("names and addresses, top level", "UIDs", "dates, top level", "coded entries")
    rows: list[Answer] = []
    for number, kind in enumerate(kinds):
        original = pydicom.dcmread(phantoms[number])
        rows += answers(plant(pydicom.dcmread(phantoms[number]), kind, number, tmp_path / "in"), original)
    result = deidentify_folder(tmp_path / "in", tmp_path / "out", LAX, key)
    pairs = [(old, tmp_path / "out" / new) for old, new in zip(result.sources, result.written, strict=True)]
    assert score(rows, pairs) == Score(len(rows), len(rows))
    copied = score(rows, [(old, old) for old, _ in pairs])
    kept = ("text_retained", "pixels_retained", "uid_consistent", "patid_consistent")
    retained = sum(row.action in kept for row in rows)
    assert copied == Score(len(rows), retained)
    kept_nothing = sum(row.action in ("text_removed", "date_shifted", "uid_changed") for row in rows)
    assert score(rows, []) == Score(len(rows), kept_nothing)


def test_the_key_has_the_columns_of_the_challenge(phantoms: list[Path], key: Key, tmp_path: Path) -> None:
    one, rows, dataset = planted_file(phantoms, "numbers, top level", tmp_path / "in")
    write_answers(tmp_path, rows, [one])
    database = sqlite3.connect(tmp_path / "answer_key.db")
    try:
        cursor = database.execute("SELECT * FROM answer_data")
        names = [column[0] for column in cursor.description]
        (line,) = cursor.fetchall()
    finally:
        database.close()
    identifiers = ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
    assert names == [*identifiers, "Modality", "SOPClassUID", "AnswerData"]
    assert line[3] == dataset.SOPInstanceUID
    data = json.loads(line[-1])
    assert len(data) == len(rows)
    removed = [entry for entry in data.values() if entry["action"] == "<text_removed>"]
    assert f"<{one.values[0]}>" in {entry["action_text"] for entry in removed}
    assert {"hipaa", "dicom", "tcia", "prev_cat"} == set(removed[0]["answer_category_v2"])
    assert all(entry["value"].startswith("<") and entry["tag_ds"].startswith("<(") for entry in data.values())
    table = list(csv.DictReader((tmp_path / "answer_key.csv").open(encoding="utf-8")))
    assert [row["action"] for row in table] == [row.action for row in rows]

    result = deidentify_folder(tmp_path / "in", tmp_path / "out", LAX, key)
    pairs = [(old, tmp_path / "out" / new) for old, new in zip(result.sources, result.written, strict=True)]
    write_mappings(tmp_path, pairs)
    new = pydicom.dcmread(pairs[0][1])
    for name, old_value, new_value in (
        ("uid_mapping.csv", dataset.SOPInstanceUID, new.SOPInstanceUID),
        ("patid_mapping.csv", dataset.PatientID, new.PatientID),
    ):
        mapping = {row["id_old"]: row["id_new"] for row in csv.DictReader((tmp_path / name).open(encoding="utf-8"))}
        assert mapping[str(old_value)] == str(new_value)


@pytest.mark.parametrize("name", ["uid_mapping.csv", "patid_mapping.csv"])
def test_mappings_of_nothing_have_their_header(tmp_path: Path, name: str) -> None:
    write_mappings(tmp_path, [])
    assert (tmp_path / name).read_text() == "id_old,id_new\n"
