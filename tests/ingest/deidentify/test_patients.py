"""Whose an image is: what ingest takes as one patient before de-identification, it takes as one after it."""

from __future__ import annotations

import csv
from pathlib import Path

import pydicom
import pytest
from pydicom.filewriter import dcmwrite

from medidistill.config import IngestConfig
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify, deidentify_folder
from medidistill.ingest.sources import find_records, workspace
from tests.ingest.builders import chest, make_film

PLAIN = DeidentifyConfig()


def _write(folder: Path, ids: list[str], table: list[str], columns: str, issuers: list[str] | None = None) -> Path:
    folder.mkdir(parents=True)
    for number, patient in enumerate(ids):
        film = make_film(
            chest(seed=number),
            number=826_000_001 + number,
            PatientID=patient,
            AccessionNumber=f"ACC{number}",
            StudyInstanceUID=f"2.25.78000010{number // 2}",
            StudyDate="20240228",
            IssuerOfPatientID=issuers[number] if issuers else "",
        )
        dcmwrite(folder / f"f{number}.dcm", film, enforce_file_format=True)
    (folder / "labels.csv").write_text("\n".join([columns, *table]) + "\n")
    return folder


def _patients(folder: Path) -> dict[str, str]:
    """The patient of each image by its label, which is another one for each image here."""
    with workspace(None) as place:
        return {record.label: record.patient_id for record in find_records(folder, IngestConfig(), place).records}


def _groups(patients: dict[str, str]) -> set[frozenset[str]]:
    return {frozenset(one for one in patients if patients[one] == patient) for patient in patients.values()}


def _both(folder: Path, key: Key) -> tuple[set[frozenset[str]], set[frozenset[str]], list[dict[str, str]]]:
    clean = folder.parent / "clean"
    deidentify_folder(folder, clean, PLAIN, key, labels=folder / "labels.csv")
    rows = list(csv.DictReader((clean / "images" / "labels.csv").read_text().splitlines()))
    return _groups(_patients(folder)), _groups(_patients(clean / "images")), rows


def _named(*groups: str) -> set[frozenset[str]]:
    return {frozenset(f"class {number}" for number in group) for group in groups}


def test_the_tables_patient_goes_before_the_header(tmp_path: Path, key: Key) -> None:
    """A PACS merged two hospitals: each study has another Patient ID, and the table says whose it is."""
    masters = ["MASTER-1"] * 4 + ["M4", "M5"]
    table = [f"ACC{n},class {n},{one}" for n, one in enumerate(masters)]
    ids = [f"H{n}0{n}77" for n in range(6)]
    folder = _write(tmp_path / "in", ids, table, "accession_number,label,patient_id")
    before, after, rows = _both(folder, key)
    assert before == after == _named("0123", "4", "5")
    assert {row["patient_id"] for row in rows} == {key.patient(f"{one}\x1f") for one in ("master-1", "m4", "m5")}
    assert "MASTER" not in str(rows)


def test_a_table_that_parts_one_header_id_parts_it_afterwards(tmp_path: Path, key: Key) -> None:
    table = [f"f{n}.dcm,class {n},{one}" for n, one in enumerate(("1", "01", "2", ""))]
    folder = _write(tmp_path / "in", ["CLINIC", "CLINIC", "CLINIC", "2"], table, "path,label,patient_id")
    before, after, rows = _both(folder, key)
    assert before == after == _named("01", "23")
    assert [row["patient_id"] == "" for row in sorted(rows, key=lambda row: row["label"])] == [False] * 3 + [True]


@pytest.mark.parametrize("issuer", ["", "PHANTOM HOSPITAL"])
def test_a_table_that_repeats_the_header_gives_the_headers_pseudonym(tmp_path: Path, key: Key, issuer: str) -> None:
    ids = ["4711", "4711", "4712", "unknown"]
    table = [f"f{n}.dcm,class {n},{one}" for n, one in enumerate(("04711", "", "4712", "n/a"))]
    folder = _write(tmp_path / "in", ids, table, "path,label,patient_id", [issuer] * 4)
    before, after, rows = _both(folder, key)
    assert before == after == _named("01", "2", "3")
    for row in rows:
        header = pydicom.dcmread(tmp_path / "clean" / "images" / row["path"]).PatientID
        assert row["patient_id"] == (header if row["label"] != "class 3" else "")


def test_spellings_of_one_id_are_one_patient(tmp_path: Path, key: Key) -> None:
    ids = ["0012345", "12345", "A77 1", "a771", "12,345", "12345.0"]
    folder = _write(tmp_path / "in", ids, [f"f{n}.dcm,class {n}" for n in range(6)], "path,label")
    before, after, _ = _both(folder, key)
    assert before == after == _named("0145", "23")


@pytest.mark.parametrize("name", ["ANONYMOUS", "n/a", "---", "x"])
def test_a_placeholder_is_no_patient(tmp_path: Path, key: Key, name: str) -> None:
    folder = _write(tmp_path / "in", [name] * 4, [f"f{n}.dcm,class {n}" for n in range(4)], "path,label")
    before, after, _ = _both(folder, key)
    assert before == after == _named("01", "23")  # two studies of two images


@pytest.mark.parametrize(
    ("patient", "issuer", "pseudonym"),
    [  # from the version before, which hashed what the header held
        ("12345", "", "P-56f35fde425fa64a"),
        ("12345", "PHANTOM HOSPITAL", "P-75234808ab927363"),
        ("a771-b", "", "P-f87add978f33de59"),
    ],
)
def test_a_pseudonym_of_a_plain_id_stays_what_it_was(key: Key, patient: str, issuer: str, pseudonym: str) -> None:
    film = make_film(chest(), PatientID=patient, IssuerOfPatientID=issuer)
    assert deidentify(film, PLAIN, key).patient == pseudonym
