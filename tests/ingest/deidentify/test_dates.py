"""Dates: those of the patient's episode move by the patient's offset; any other is the same for many patients."""

from __future__ import annotations

import datetime

import pytest
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence

from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify
from medidistill.ingest.deidentify.table import action_of

# the days of an examination, which the distance between two examinations of a patient is counted in
EPISODE = {
    *("InstanceCreationDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime"),
    *("FrameAcquisitionDateTime", "FrameReferenceDateTime", "StartAcquisitionDateTime", "EndAcquisitionDateTime"),
    *("AdmittingDate", "IssueDateOfImagingServiceRequest"),
    *("ScheduledProcedureStepStartDate", "ScheduledProcedureStepEndDate", "ScheduledProcedureStepStartDateTime"),
    *("PerformedProcedureStepStartDate", "PerformedProcedureStepEndDate"),
    *("PerformedProcedureStepStartDateTime", "PerformedProcedureStepEndDateTime"),
}
ALL = {tag: vr for tag, (vr, *_) in DicomDictionary.items() if vr in ("DA", "DT")}
DEVICE = ("DateOfManufacture", "DateOfInstallation", "DateOfLastCalibration", "DateOfLastDetectorCalibration")


def _put_all(dataset: Dataset) -> None:
    for tag, vr in ALL.items():
        dataset.add_new(tag, vr, "20200105" if vr == "DA" else "20200105101112")
    dataset.add_new(0x00091001, "DA", "20200105")
    dataset.add_new(0x00190010, "LO", "PHANTOM WORKS")
    dataset.add_new(0x00191002, "DT", "20200105101112")


def test_only_the_listed_dates_move() -> None:
    assert {keyword_for_tag(tag) for tag, vr in ALL.items() if action_of(tag, vr) == "date"} == EPISODE
    assert {action_of(tag_for_keyword(name) or 0, "DA") for name in DEVICE} == {"X"}
    others = {tag: vr for tag, vr in ALL.items() if keyword_for_tag(tag) not in {*EPISODE, "PatientBirthDate"}}
    assert {action_of(tag, vr) for tag, vr in others.items()} == {"X"}
    assert len(others) > 100


@pytest.mark.parametrize("dates", ["shift", "retain", "remove"])
def test_no_other_date_is_written_at_any_depth(phantom: FileDataset, key: Key, dates: str) -> None:
    inner, outer = Dataset(), Dataset()
    _put_all(inner)
    outer.ReferencedImageSequence = Sequence([inner])  # both are walked
    _put_all(outer)
    phantom.SourceImageSequence = Sequence([outer])
    _put_all(phantom)
    new = deidentify(phantom, DeidentifyConfig(dates=dates), key).dataset
    assert len(new.SourceImageSequence[0].ReferencedImageSequence) == 1
    left = [element for element in new.iterall() if element.VR in ("DA", "DT")]
    assert {element.keyword for element in left if element.value} == (set() if dates == "remove" else EPISODE)
    assert {element.keyword for element in left} == {*EPISODE, "PatientBirthDate"}
    assert "20200105" not in str(new) or dates == "retain"


def test_two_patients_of_one_device_share_no_date(phantom: FileDataset, key: Key) -> None:
    """Else the difference between their offsets, and with a label on the device both offsets, can be read."""
    true, made = [], []
    for patient, study in (("PHANTOM-A", "20210310"), ("PHANTOM-B", "20230917")):
        phantom.PatientID, phantom.StudyDate = patient, study
        for name in DEVICE:
            setattr(phantom, name, "20200105")
        true.append(datetime.date.fromisoformat(study))
        made.append(deidentify(phantom, DeidentifyConfig(), key).dataset)
    assert all(name not in dataset for dataset in made for name in DEVICE)
    first, second = (datetime.date.fromisoformat(dataset.StudyDate) for dataset in made)
    assert second - first != true[1] - true[0]


def test_the_site_may_keep_one_by_name(phantom: FileDataset, key: Key) -> None:
    phantom.DateOfInstallation = "20160101"
    kept = deidentify(phantom, DeidentifyConfig(keep=("DateOfInstallation",)), key).dataset
    assert kept.DateOfInstallation == "20160101"
    assert dictionary_VR("DateOfInstallation") == "DA"
