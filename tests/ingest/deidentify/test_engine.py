"""The engine: what goes, what stays, what it becomes; on datasets written by hand."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence

from medidistill.errors import IngestError
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify
from medidistill.ingest.deidentify.reading import read_dicom
from medidistill.ingest.deidentify.table import action_of, profile
from medidistill.ingest.silence_pydicom import silence_pydicom
from tests.support.planted import KINDS, bytes_of, holds, plant

PLAIN = DeidentifyConfig()


def codes(dataset: Dataset) -> list[str]:
    return [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]


def written_by(dataset: Dataset, key: Key, path: Path, config: DeidentifyConfig = PLAIN) -> Dataset:
    """The result of the engine alone, as it is read from the disk."""
    with silence_pydicom():
        dcmwrite(path, deidentify(dataset, config, key).dataset, enforce_file_format=True)
        return pydicom.dcmread(path)


# the decimal string decides about the size of a pixel: such a file is refused
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"patient number in a decimal string"}))
def test_nothing_planted_passes_the_engine(kind: str, phantom: FileDataset, key: Key, tmp_path: Path) -> None:
    with silence_pydicom():
        planted = plant(phantom, kind, 41, tmp_path / "in")
        written_by(read_dicom(planted.path), key, tmp_path / "out.dcm")
    for value in planted.values:
        assert holds(bytes_of(planted.path) + str(planted.path).encode(), value)
        assert not holds(bytes_of(tmp_path / "out.dcm"), value)


def test_unused_bits_are_cleared_and_the_pixels_kept(phantom: FileDataset, key: Key, tmp_path: Path) -> None:
    before = phantom.pixel_array.copy()
    planted = plant(phantom, "unused bits, uncompressed", 3, tmp_path)
    after = np.frombuffer(deidentify(read_dicom(planted.path), PLAIN, key).dataset.PixelData, "<u2")
    assert np.frombuffer(read_dicom(planted.path).PixelData, "<u2").max() > 4095
    assert (after == before.ravel()).all()


def test_signed_pixels_keep_their_sign(phantom: FileDataset, key: Key) -> None:
    values = np.array([-2048, -1, 0, 2047], "<i2").repeat(128 * 32)
    phantom.PixelRepresentation, phantom.PixelData = 1, values.tobytes()
    after = deidentify(phantom, PLAIN, key).dataset.PixelData
    assert (np.frombuffer(after, "<i2") == values).all()


def test_the_input_is_not_changed_and_the_result_repeats(phantom: FileDataset, key: Key) -> None:
    before = copy.deepcopy(phantom)
    first, second = (deidentify(phantom, PLAIN, key) for _ in range(2))
    assert phantom == before
    assert first.dataset == second.dataset
    assert first.changes == second.changes


def test_pseudonyms_follow_patient_and_key(phantoms: list[Path], key: Key) -> None:
    datasets = [pydicom.dcmread(path) for path in phantoms]
    made = [deidentify(dataset, PLAIN, key).dataset for dataset in datasets]
    other = deidentify(datasets[0], PLAIN, Key(b"another key of the same length 1234567")).dataset
    pairs = {(str(old.PatientID), str(new.PatientID)) for old, new in zip(datasets, made, strict=True)}
    assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs}) > 1
    assert all(str(new.PatientName) == new.PatientID for new in made)
    assert other.PatientID != made[0].PatientID
    assert other.SOPInstanceUID != made[0].SOPInstanceUID


def test_uids_keep_their_references_and_the_standards_own_stay(phantom: FileDataset, key: Key) -> None:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = phantom.SOPClassUID, phantom.SOPInstanceUID
    phantom.ReferencedImageSequence = Sequence([item])
    new = deidentify(phantom, PLAIN, key).dataset
    assert new.SOPInstanceUID != phantom.SOPInstanceUID
    assert new.SOPInstanceUID.startswith("2.25.")
    assert new.SOPInstanceUID.is_valid
    assert new.ReferencedImageSequence[0].ReferencedSOPInstanceUID == new.SOPInstanceUID
    assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
    assert new.ReferencedImageSequence[0].ReferencedSOPClassUID == phantom.SOPClassUID == new.SOPClassUID
    assert new.file_meta.TransferSyntaxUID == phantom.file_meta.TransferSyntaxUID


def test_dates_of_a_patient_keep_their_distance(phantom: FileDataset, key: Key) -> None:
    phantom.StudyDate, phantom.AcquisitionDate, phantom.PatientBirthDate = "20240228", "20240301", "19500101"
    phantom.StudyTime, phantom.AcquisitionDateTime = "101112", "20240301101112.5+0100"
    new = deidentify(phantom, PLAIN, key).dataset
    study, acquired = (datetime.date.fromisoformat(str(d)) for d in (new.StudyDate, new.AcquisitionDate))
    assert acquired - study == datetime.timedelta(days=2)
    assert datetime.timedelta(days=30) <= datetime.date(2024, 2, 28) - study <= datetime.timedelta(days=3650)
    assert new.AcquisitionDateTime == new.AcquisitionDate
    assert not new.PatientBirthDate
    assert not new.StudyTime
    assert new.LongitudinalTemporalInformationModified == "MODIFIED"
    assert codes(new) == ["113100", "113105", "113107"]
    assert new.PatientIdentityRemoved == "YES"


@pytest.mark.parametrize(
    ("dates", "study", "mark", "code"),
    [("retain", "20240228", "UNMODIFIED", ["113106"]), ("remove", "", "REMOVED", [])],
)
def test_dates_by_option(phantom: FileDataset, key: Key, dates: str, study: str, mark: str, code: list[str]) -> None:
    phantom.StudyDate, phantom.StudyTime, phantom.PatientBirthDate = "20240228", "101112", "19500101"
    new = deidentify(phantom, DeidentifyConfig(dates=dates), key).dataset
    assert (new.StudyDate or "", new.StudyTime or "") == (study, "101112" if study else "")
    assert not new.PatientBirthDate
    assert new.LongitudinalTemporalInformationModified == mark
    assert codes(new) == ["113100", "113105", *code]


def test_a_date_that_is_none_does_not_stay(phantom: FileDataset, key: Key) -> None:
    with silence_pydicom():
        for text in ("MUELLER", "20241399", "20240101-20240301", "00010101"):
            phantom.add_new(0x00080022, "DA", text)
            for dates in ("shift", "remove"):
                assert not deidentify(phantom, DeidentifyConfig(dates=dates), key).dataset.AcquisitionDate
        phantom.add_new(0x00080022, "DA", "MUELLER")
        assert not deidentify(phantom, DeidentifyConfig(dates="retain"), key).dataset.AcquisitionDate


def test_patient_characteristics_by_option(phantom: FileDataset, key: Key) -> None:
    phantom.PatientAge, phantom.PatientSex, phantom.PatientWeight, phantom.Occupation = "097Y", "F", "61", "baker"
    without = deidentify(phantom, PLAIN, key).dataset
    kept = deidentify(phantom, DeidentifyConfig(patient_characteristics=True), key).dataset
    assert "PatientAge" not in without
    assert not without.PatientSex
    assert (kept.PatientAge, kept.PatientSex, kept.PatientWeight) == ("090Y", "F", 61)
    assert "Occupation" not in kept
    assert codes(kept) == ["113100", "113105", "113107", "113108"]


def test_descriptions_keep_the_words_of_the_vocabulary(phantom: FileDataset, key: Key) -> None:
    phantom.StudyDescription = "Chest PA, Mrs. Phantomova (room 12)"
    view = Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "399348003", "SCT", "antero-posterior"
    local = Dataset()
    local.CodeValue, local.CodingSchemeDesignator, local.CodeMeaning = "X1", "99LOCAL", "our view"
    phantom.ViewCodeSequence = Sequence([view, local])
    new = deidentify(phantom, PLAIN, key).dataset
    assert new.StudyDescription == "CHEST PA"
    assert [item.CodeMeaning for item in new.ViewCodeSequence] == ["antero-posterior"]


def test_changes_name_the_element_and_hash_the_value(phantom: FileDataset, key: Key) -> None:
    item = Dataset()
    item.InstitutionName = "Phantom Clinic"
    phantom.AnatomicRegionSequence = Sequence([item])
    changes = {change.where: change for change in deidentify(phantom, PLAIN, key).changes}
    assert changes["(0008,2218)[0](0008,0080)"].action == "X"
    assert changes["(0010,0010)"].action == "Z"
    assert "(0028,0010)" not in changes
    assert "hantom" not in repr(changes)


def test_recipe_removes_keeps_and_replaces(phantom: FileDataset, key: Key) -> None:
    phantom.ExposureIndex, phantom.StationName, phantom.InstitutionName = "300", "ROOM4", "Phantom Clinic"
    recipe = DeidentifyConfig(remove=("ExposureIndex",), keep=("(0008,1010)",), replace=(("InstitutionName", "North"),))
    new = deidentify(phantom, recipe, key).dataset
    assert deidentify(phantom, PLAIN, key).dataset.ExposureIndex == 300
    assert "ExposureIndex" not in new
    assert (new.StationName, new.InstitutionName) == ("ROOM4", "North")
    assert new.DeidentificationMethod[1] == "PS3.15 2026c Table E.1-1"
    assert "site recipe" in new.DeidentificationMethod[-1]


def test_what_cannot_be_told_apart_is_refused(phantom: FileDataset, key: Key) -> None:
    cut = copy.deepcopy(phantom)
    cut.PixelData = cut.PixelData[:-2]
    with pytest.raises(IngestError, match="Pixel Data is shorter than"):
        deidentify(cut, PLAIN, key)
    for name in ("PatientID", "StudyInstanceUID"):
        del phantom[name]
    by_image = deidentify(phantom, PLAIN, key).patient
    assert by_image.startswith("P-")
    del phantom.SOPInstanceUID
    with pytest.raises(IngestError, match=r"^\(0008,0018\) SOP Instance UID missing or empty"):
        deidentify(phantom, PLAIN, key)
    phantom.SOPInstanceUID, phantom.SOPClassUID = "", ""
    with pytest.raises(IngestError, match=r"\(0008,0016\) SOP Class UID and \(0008,0018\) SOP Instance UID missing"):
        deidentify(phantom, PLAIN, key)


@pytest.mark.parametrize(
    ("tag", "vr", "action"),
    [
        (0x00100010, "PN", "Z"),
        (0x00100020, "LO", "Z"),
        (0x00400555, "SQ", "Z"),  # X/Z, type 2 in DX
        (0x00080080, "LO", "X"),  # X/Z/D
        (0x00081140, "SQ", "recurse"),  # X/Z/U*
        (0x00090010, "LO", "X"),  # private
        (0x00090011, "US", "X"),
        (0x60003000, "OW", "X"),
        (0x60000010, "US", "X"),
        (0x50000005, "US", "X"),
        (0x00185101, "FD", "X"),  # View Position is a CS
        (0x50000022, "LO", "X"),
        (0x00280010, "US", "number"),
        (0x00280010, "UN", "X"),  # not the VR of the dictionary
        (0x00280120, "US or SS", "number"),
        (0x00186018, "UL", "X"),  # no attribute of a radiograph
        (0x00080070, "LO", "equipment"),
        (0x00180015, "CS", "term"),
        (0x7FE00010, "OW", "bulk"),
        (0x00080018, "UI", "U"),
    ],
)
def test_actions_by_hand(tag: int, vr: str, action: str) -> None:
    assert action_of(tag, vr) == action


def test_the_table_is_the_standards() -> None:
    assert len(profile()) > 640
    assert profile()[0x0040A730] == "D"
