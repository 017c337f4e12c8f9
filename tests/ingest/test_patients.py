"""Who is the patient: never in two splits where anything tells, and said where nothing does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from medidistill.config import IngestConfig
from medidistill.errors import IngestError
from medidistill.ingest import ingest
from medidistill.ingest.sources import find_records, hash_patient, workspace
from medidistill.ingest.sources.patients import identify, normal_id
from medidistill.patient_units import PatientSource, PatientUnits

CONFIG = IngestConfig(image_size=16)


def films(folder, save, header, table=lambda patient, view: "", patients=6, views=2):
    """Write DICOM files of two classes; `header(patient, view)` gives attributes, `table` the column patient_id."""
    rows, number = ["path,label,patient_id"], 0
    for k, label in enumerate(("cat", "dog")):
        for p in range(patients):
            for view in range(views):
                number += 1
                pixels = np.random.default_rng(number).integers(0, 4095, (20, 20))
                save(folder / f"{number}.dcm", pixels, number=number, **header(100 * k + p, view))
                rows.append(f"{number}.dcm,{label},{table(100 * k + p, view)}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def true_patients(key):
    return (int(key.removesuffix(".dcm")) - 1) // 2


def shared_between_splits(result):
    """Return the patients that lie in several splits, as the films were made."""
    splits = {}
    for row in result.manifest.itertuples():
        splits.setdefault(true_patients(row.key), set()).add(row.split)
    return [patient for patient, where in splits.items() if len(where) > 1]


FORMS = {
    "one study without Patient ID": (
        lambda p, v: {"PatientID": "", "StudyInstanceUID": f"2.25.{9000 + p}"},
        lambda p, v: "",
    ),
    "one study under a word for nobody": (
        lambda p, v: {"PatientID": ("ANONYMOUS", "n/a")[v], "StudyInstanceUID": f"2.25.{9000 + p}"},
        lambda p, v: "",
    ),
    "leading zeros in headers": (lambda p, v: {"PatientID": f"{p:08d}" if v else str(p + 0)}, lambda p, v: ""),
    "case in headers": (lambda p, v: {"PatientID": f"{'ab' if v else 'AB'}{p}"}, lambda p, v: ""),
    "spaces in headers": (lambda p, v: {"PatientID": f"AB {p}" if v else f"AB{p}"}, lambda p, v: ""),
    "a spreadsheet's floats, half filled": (
        lambda p, v: {"PatientID": str(1000 + p)},
        lambda p, v: f"{1000 + p}.0" if v else "",
    ),
    "thousands in a table": (
        lambda p, v: {},
        lambda p, v: f'"{(1000 + p) // 1000},{(1000 + p) % 1000:03d}"' if v else 1000 + p,
    ),
    "pseudonyms of a table, half filled": (
        lambda p, v: {"PatientID": f"MRN{p}"},
        lambda p, v: f"study-{p}" if v else "nan",
    ),
}


@pytest.mark.parametrize(("header", "table"), FORMS.values(), ids=FORMS)
def test_forms_of_one_patient_never_lie_in_two_splits(tmp_path, save, header, table):
    result = ingest(films(tmp_path, save, header, table), CONFIG)
    assert result.manifest.patient_id.nunique() == 12
    assert shared_between_splits(result) == []


def test_forms_that_are_kept_apart_are_reported_as_such(tmp_path, save):
    films(tmp_path, save, *FORMS["case in headers"])
    result = ingest(tmp_path, dataclasses.replace(CONFIG, similar_patient_ids="keep"))
    assert result.manifest.patient_id.nunique() == 24
    assert len(result.warned) == 12
    assert any("24 patient IDs differ from another one" in note and "kept apart" in note for note in result.notes)


def test_forms_that_are_merged_are_reported_file_by_file(tmp_path, save):
    result = ingest(films(tmp_path, save, *FORMS["leading zeros in headers"]), CONFIG)
    assert any("taken as 12 patients" in note for note in result.notes)
    assert len(result.warned) == 12
    assert {true_patients(one.key) for one in result.warned} == {true_patients(one.other) for one in result.warned}
    assert all(one.key != one.other for one in result.warned)
    assert "0000" not in " ".join(result.notes)


def test_study_stands_for_the_patient_and_that_is_said(tmp_path, save):
    result = ingest(films(tmp_path, save, *FORMS["one study under a word for nobody"]), CONFIG)
    assert set(result.manifest.patient_source) == {"study"}
    assert result.patients == PatientUnits(study=24)
    assert "The patient ID of 24 images is a placeholder such as ANONYMOUS; it is taken as absent." in result.notes
    assert any("24 of 24 images have no Patient ID: the study" in note for note in result.notes)


def test_declared_split_that_shares_a_patient_is_refused_across_forms(tmp_path, save):
    for n in range(12):
        split = ("train", "val", "test")[n % 3]
        pixels = np.random.default_rng(n).integers(0, 4095, (20, 20))
        patient = {"PatientID": "0042" if n == 0 else "42" if n == 1 else f"P{n}"}
        save(tmp_path / split / ("cat", "dog")[n // 6] / f"{n}.dcm", pixels, number=n + 1, **patient)
    with pytest.raises(IngestError, match=r"1 of 11 patients .* than one split \(train and val\); give") as caught:
        ingest(tmp_path, CONFIG)
    assert "p-" not in str(caught.value)
    assert caught.value.private[0].endswith(": train/cat/0.dcm in train, val/cat/1.dcm in val")


def test_pictures_without_header_are_split_by_image_and_that_is_said(tmp_path):
    for k, label in enumerate(("cat", "dog")):
        for i in range(4):
            path = tmp_path / "in" / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(10 * k + i).integers(0, 255, (20, 20), dtype=np.uint8)).save(path)
    result = ingest(tmp_path / "in", CONFIG)
    assert result.patients == PatientUnits(nothing=8)
    assert set(result.manifest.patient_source) == {"nothing"}
    assert result.notes[-1].startswith("Patients unknown: split by image.")
    rows = "".join(f"{label}/{i}.png,{label},{label}{i // 2}\n" for label in ("cat", "dog") for i in range(4))
    (tmp_path / "in/labels.csv").write_text(
        "path,label,patient_id\n" + rows.replace("cat/0.png,cat,cat0", "cat/0.png,cat,")
    )
    with workspace(None) as place:
        units = PatientUnits.of(one.patient_source for one in find_records(tmp_path / "in", CONFIG, place).records)
    assert units == PatientUnits(table=7, nothing=1)
    assert units.sentences()[0].startswith("Patients unknown for 1 of 8 images: split by image.")


@pytest.mark.parametrize(
    ("forms", "alike"),
    [
        (("12", "012", "12.0", " 12 ", "12.00", "0012.0"), True),
        (("AB12", "ab12", "AB 12", "aB012", "\uff21\uff2212"), True),
        (("1234", "1,234", "1.234", "1'234"), True),
        (("0", "00", "0.0"), True),
        (("12", "120"), False),
        (("12", "1.2"), False),
        (("A1", "A10"), False),
        (("1-01", "10-1"), False),
        (("A-1", "A1"), False),
        (("1.2.840", "1.2.84"), False),
    ],
)
def test_normal_form_of_an_identifier(forms, alike):
    assert (len({normal_id(form) for form in forms}) == 1) == alike


@pytest.mark.parametrize(
    ("table", "header", "study", "raw", "source"),
    [
        ("T1", "H1", "1.2", "T1", PatientSource.TABLE),
        (" ", "H1", "1.2", "H1", PatientSource.HEADER),
        ("nan", "H1", "1.2", "H1", PatientSource.HEADER),
        ("", "Anonymized", "1.2", "study\x1f1.2", PatientSource.STUDY),
        ("", "---", "1.2", "study\x1f1.2", PatientSource.STUDY),
        ("", "0", "1.2", "0", PatientSource.HEADER),
        ("N/A", "UNKNOWN", "", "file\x1fkey", PatientSource.NOTHING),
    ],
)
def test_identity_is_the_first_that_names_somebody(table, header, study, raw, source):
    who = identify("key", table, header, study)
    assert (who.raw, who.source) == (raw, source)


def test_hash_of_an_identifier_did_not_change():
    """Ledgers of releases hold these hashes."""
    assert hash_patient(" PHANTOM^cat^0 ") == "p-4174fcf678fd"


def test_units_of_a_run_that_does_not_note_them_are_unresolved():
    assert PatientUnits.from_facts({}).unresolved
    known = PatientUnits(table=3, header=2, study=1)
    assert PatientUnits.from_facts({"patients_known_by": known.as_facts()}) == known
    assert not known.unresolved
    assert "2 of 5 images" in PatientUnits(table=3, nothing=2).unresolved
    assert "2 of 5" not in " ".join(PatientUnits(table=3, nothing=2).sentences(counts=False))
